"""A support bot that answers from a small FAQ and says so when nothing in it fits.

Retrieval comes first, by meaning or by words (see search.py). Below a threshold the bot says that it does not know.
Above it, a model may word the answer; what it writes is shown only when every number and nearly every word of it stands
in the entry, and always with its source.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from helpers.chat import Chat
from helpers.errors import InvalidInput
from helpers.instruct.search import Index, by_meaning, by_words, content_words

if TYPE_CHECKING:
    import pandas as pd

DONT_KNOW = "I don't know: our help pages say nothing about that."
#: At least this share of the content words of a model's answer has to stand in the entry.
GROUNDED_SHARE = 0.8
SEARCHES = {"meaning": by_meaning, "words": by_words}
ANSWER_PROMPT = "{answer}\n\nUse only the text above. {question}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One question of the FAQ: `also` are other ways to ask it, `source` is where the answer stands."""

    id: str
    question: str
    answer: str
    source: str
    also: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it that a question is compared with."""
        return " ".join([self.question, *self.also, self.answer])


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bot says: `wording` tells whose words they are, `source` where they come from, `fit` how near it was."""

    text: str
    wording: Literal["the page's words", "the model's words", "refusal"]
    source: str | None
    fit: float

    def __str__(self) -> str:
        return f"{self.text} [{self.source}]" if self.source else self.text


class Faq:
    """Entries that can be searched `by` meaning or words, and the bot that answers from them."""

    def __init__(
        self,
        entries: Iterable[Entry],
        threshold: float = 0.0,
        *,
        by: Literal["meaning", "words"] = "meaning",
    ) -> None:
        self.entries, self.threshold = tuple(entries), threshold
        if not self.entries:
            raise InvalidInput("An FAQ without entries answers nothing.", "Give at least one entry.")
        self._index = Index((entry.text for entry in self.entries), SEARCHES[by])

    @classmethod
    def load(cls, path: str | Path, by: Literal["meaning", "words"] = "meaning") -> Faq:
        """The FAQ of a JSON file with `entries`, its threshold chosen on the questions of its `dev` list."""
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        entries = [Entry(**{**entry, "also": tuple(entry.get("also", ()))}) for entry in data["entries"]]
        faq = cls(entries, by=by)
        faq.threshold = faq.choose_threshold(data["dev"])
        return faq

    def search(self, question: str, n: int = 3) -> list[tuple[Entry, float]]:
        """The n entries that fit best, each with its fit."""
        return [(self.entries[place], fit) for place, fit in self._index.search(question, n)]

    def answer(self, question: str, chat: Chat | None = None) -> Answer:
        """The bot's answer. With a chat, whose history is left alone, a model words it where it stays with the page."""
        entry, fit = self.search(question, 1)[0]
        if fit <= self.threshold:
            return Answer(DONT_KNOW, "refusal", None, fit)
        if chat is not None:
            asked = ANSWER_PROMPT.format(question=question, answer=entry.answer)
            reply = chat.another().say(asked, max_new_tokens=60, stop=("\n",))
            if reply.finish_reason == "stop" and grounded(reply.text, f"{entry.question} {entry.answer}"):
                return Answer(reply.text.strip(), "the model's words", entry.source, fit)
        return Answer(entry.answer, "the page's words", entry.source, fit)

    def choose_threshold(self, questions: Sequence[Mapping[str, Any]]) -> float:
        """The best fit of any question that the FAQ does not answer: above it, none of these would be answered.

        A shop rather refuses one question too many than answers one wrongly. Choose on a list of its own, and report
        what another list shows.
        """
        outside = [question for question in questions if question["entry"] is None]
        if not outside:
            raise InvalidInput("A threshold needs questions that the FAQ does not answer.", "Add some with entry None.")
        return max(self.search(question["question"], 1)[0][1] for question in outside)

    def evaluate(self, questions: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """One row a question: which entry was found, was it answered, and was that right.

        Right is the entry it belongs to or, for a question that belongs to none, a refusal.
        """
        import pandas as pd

        rows = []
        for item in questions:
            entry, fit = self.search(item["question"], 1)[0]
            answered = fit > self.threshold
            right = (entry.id == item["entry"]) if answered else item["entry"] is None
            rows.append(
                {"question": item["question"], "in_scope": item["entry"] is not None, "found": entry.id}
                | {"fit": fit, "answered": answered, "right": right}
            )
        return pd.DataFrame(rows)


def grounded(text: str, source: str) -> bool:
    """Whether the text stays with its source: no number of its own, and hardly a word.

    This catches what was invented, not what was turned round: "you can" made of "you cannot" passes.
    """
    words, known = content_words(text), set(content_words(source))
    if not words or any(word.isdigit() and word not in known for word in words):
        return False
    return sum(word in known for word in words) / len(words) >= GROUNDED_SHARE
