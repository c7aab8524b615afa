"""An answer from what was found: the model words it, and each sentence is shown only with the passage it stands in.

    hits = index.search("How long may I keep it?")
    answer_from(chat, "How long may I keep it?", hits)

Three gates stand before a reader. Where no passage is near the question, the model is not asked at all. Where the model
says that the pages do not tell, that is the answer. And a sentence that has a number or too many words from nowhere is
left out; if none is left, the answer is "I don't know". The gates catch what was invented, not what was turned round:
"you can" made of "you cannot" passes, and so does a wrong row of the right table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from helpers.assistant.documents import Passage
from helpers.assistant.index import Hit
from helpers.chat import Chat
from helpers.instruct.faq import GROUNDED_SHARE
from helpers.instruct.search import content_words
from helpers.records import Reply
from helpers.words import NUMBER_WORDS, TENS

AnswerGate = Literal["answered", "nothing near", "the model", "ungrounded"]
NOT_IN_DOCUMENTS = "I don't know: the documents say nothing about that."
#: Below this cosine of the best passage, nothing is near: no question of the dev list that the shop's documents answer
#: lies lower.
NEAREST = 0.30
MOST_NEW_TOKENS = 60
#: At least this share of all words of a sentence stands in its passage, the question's own among them: "we sell sofas
#: online only", to a shop that sells lamps online only, has two of three.
WORDS_SHARE = 0.7
READER = (
    "You answer a customer's question in one short sentence from the text that you are given. "
    "If the text does not say it, write: I don't know."
)
ASKED = "{pages}\n\nUse only the text above. {question}"
#: How a model says that it does not know.
REFUSAL = re.compile(
    r"\b(?:don['’]?t|do(?:es)? not|doesn['’]?t|can(?:not|['’]?t)) (?:\w+ )?"
    r"(?:know|say|mention|provide|specify|tell|contain|state)"
    r"|\bno (?:mention|information)|\bnot (?:\w+ )?(?:mentioned|specified|provided|stated)|\bunable to",
    re.IGNORECASE,
)
NUMERALS = {word: number for number, word in enumerate(NUMBER_WORDS)}
NUMERALS |= {word: 10 * number for number, word in enumerate(TENS) if number}
#: What is cut off a word, and how much of its beginning then counts: returned is return, and delivery deliver.
ENDINGS, STEM_LETTERS = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|ly)$"), 5


@dataclass(frozen=True, slots=True)
class Sourced:
    """A sentence of an answer and the passage that it stands in."""

    text: str
    source: Passage

    def __str__(self) -> str:
        return f"{self.text} [{self.source.place}]"


@dataclass(frozen=True, slots=True)
class SourcedAnswer:
    """What is shown. `gate` says what became of it, `written` what the model wrote, of which `dropped` was left out."""

    sentences: tuple[Sourced, ...]
    gate: AnswerGate
    written: str = ""
    dropped: tuple[str, ...] = ()
    reply: Reply | None = field(default=None, repr=False)

    @property
    def refused(self) -> bool:
        """Whether the answer is that the documents do not tell."""
        return self.gate != "answered"

    @property
    def text(self) -> str:
        """The answer without its sources."""
        return NOT_IN_DOCUMENTS if self.refused else " ".join(one.text for one in self.sentences)

    @property
    def sources(self) -> tuple[Passage, ...]:
        """The passages that the answer stands in, each once."""
        return tuple(dict.fromkeys(one.source for one in self.sentences))

    def __str__(self) -> str:
        return NOT_IN_DOCUMENTS if self.refused else " ".join(map(str, self.sentences))


def answer_from(chat: Chat, question: str, hits: Sequence[Hit]) -> SourcedAnswer:
    """The answer of the chat's model to the question, from these passages; the chat's history is left alone."""
    if not near_enough(hits):
        return SourcedAnswer((), "nothing near")
    asked = passages_prompt(question, hits)
    reply = chat.another(system=READER, temperature=0.0).say(asked, max_new_tokens=MOST_NEW_TOKENS)
    cut = reply.finish_reason == "length"
    return replace(with_sources(reply.text, question, hits, cut=cut), reply=reply)


def near_enough(hits: Sequence[Hit]) -> bool:
    """Whether some passage is near the question; one that was found by words alone has no cosine, and is not judged."""
    cosines = [hit.cosine for hit in hits if hit.cosine is not None]
    return bool(hits) and (not cosines or max(cosines) >= NEAREST)


def passages_prompt(question: str, hits: Sequence[Hit]) -> str:
    """What the model is asked: the passages, each under its heading, the best nearest to the question."""
    pages = [f"{hit.passage.heading or hit.passage.source}: {hit.passage.text}" for hit in reversed(hits)]
    return ASKED.format(pages="\n\n".join(pages), question=question)


def with_sources(written: str, question: str, hits: Sequence[Hit], *, cut: bool = False) -> SourcedAnswer:
    """What may be shown of what a model wrote: the sentences that stand in one of the passages, each with it.

    `cut` means that the cap on new tokens ended it: the last sentence is left out, as its end may have turned it round.
    """
    if REFUSAL.search(written) or not written.strip():
        return SourcedAnswer((), "the model", written)
    sentences, dropped = list(sentences_of(written)), list[str]()
    if cut:
        dropped.append(sentences.pop())
    kept = list[Sourced]()
    for sentence in sentences:
        if source := standing_in(sentence, question, [hit.passage for hit in hits]):
            kept.append(Sourced(sentence, source))
        else:
            dropped.append(sentence)
    return SourcedAnswer(tuple(kept), "answered" if kept else "ungrounded", written, tuple(dropped))


def sentences_of(text: str) -> Iterator[str]:
    """The sentences of a text, and the lines of a list.

    >>> [*sentences_of("It costs 24.50 euros. Free above 60!")]
    ['It costs 24.50 euros.', 'Free above 60!']
    """
    yield from (part.strip(" -*") for part in re.split(r"(?<=[.!?])\s+(?![a-z])|\n+", text) if part.strip(" -*"))


def standing_in(sentence: str, question: str, passages: Sequence[Passage]) -> Passage | None:
    """The passage that a sentence stands in: all its numbers, most of its words, nearly all that the question has not.

    A sentence that only says the question's own words again stands nowhere: agreeing is no source.
    """
    words = _stems(sentence)
    new = words - _stems(question)
    best, best_share = None, 0.0
    for passage in passages:
        known = _stems(passage.searched)
        numbered = all(word in known for word in words if word.isdigit())
        if new and numbered and _share(new, known) >= GROUNDED_SHARE and _share(words, known) > best_share:
            best, best_share = passage, _share(words, known)
    return best if best_share >= WORDS_SHARE else None


def _share(words: set[str], known: set[str]) -> float:
    return sum(word in known for word in words) / len(words)


def _stems(text: str) -> set[str]:
    """The content words by their beginnings; a numeral and its digits are one word."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text).lower()
    numbers = {str(NUMERALS[word]) for word in re.findall(r"[a-z]+", text) if NUMERALS.get(word, 0) > 1}
    plain = {word for word in content_words(text) if word not in NUMERALS}
    return numbers | {word if word.isdigit() else ENDINGS.sub("", word)[:STEM_LETTERS] for word in plain}
