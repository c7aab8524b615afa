"""Forty questions to the shop's documents, and what is counted of them: found, answered right, refused, wrong.

Thirty have a known place in the documents, ten have no answer there. They were written with the documents in sight and
in other words than theirs. Whoever writes both knows what is easy, so they flatter; the dev list, on which the gate's
threshold was chosen, is apart from them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from helpers.assistant.answers import MOST_NEW_TOKENS, REFUSAL, SourcedAnswer, answer_from, near_enough, with_sources
from helpers.assistant.documents import Passage
from helpers.assistant.index import DocumentIndex, SearchWay
from helpers.chat import Chat
from helpers.data import stored
from helpers.intervals import Rate
from helpers.records import Reply

if TYPE_CHECKING:
    import pandas as pd

AnswerVerdict = Literal["right", "refused", "wrong"]
ALONE = "You answer the customers of Lumen, a shop that sells solar lamps, in one short sentence. "
ALONE += "If you do not know the answer, write: I don't know."
#: How many passages stand before a question, and how they are searched: the places of all twenty questions of the dev
#: list are among the first three by both ways. Each passage costs a small model seconds.
PASSAGES = 3
SEARCHED_BY: SearchWay = "both"


@dataclass(frozen=True, slots=True)
class ShopQuestion:
    """A question, where its answer stands (None: nowhere), and what an answer must say: of each group, one."""

    question: str
    source: str | None
    heading: str | None
    accepts: tuple[tuple[str, ...], ...] = ()

    @property
    def answerable(self) -> bool:
        """Whether the documents tell."""
        return self.source is not None

    def stands_in(self, passage: Passage) -> bool:
        """Whether this passage is the place."""
        return (passage.source, passage.heading.split(" › ")[-1]) == (self.source, self.heading)

    def verdict(self, said: str, *, refused: bool) -> AnswerVerdict:
        """What an answer is worth: right, refused, or wrong. Of a question without an answer nothing else is right."""
        if refused:
            return "refused"
        told = said.casefold()
        right = self.answerable and all(
            any(re.search(rf"(?<!\w){re.escape(one)}(?!\w|[.,]\d)", told) for one in group) for group in self.accepts
        )
        return "right" if right else "wrong"


def shop_questions(part: Literal["questions", "dev"] = "questions") -> list[ShopQuestion]:
    """The course's forty, of data/assistant_questions.json, or the thirty of its dev list."""
    return [
        ShopQuestion(one["question"], one["source"], one["heading"], tuple(map(tuple, one.get("accepts", ()))))
        for one in stored("assistant_questions")[part]
    ]


def place_ranks(index: DocumentIndex, questions: Sequence[ShopQuestion], by: SearchWay) -> list[int | None]:
    """For each question with an answer the rank at which its place was found, from 1 on; None: not in the first 20."""
    ranks = list[int | None]()
    for one in questions:
        if one.answerable:
            hits = index.search(one.question, 20, by)
            ranks.append(next((n for n, hit in enumerate(hits, start=1) if one.stands_in(hit.passage)), None))
    return ranks


def recall_table(index: DocumentIndex, questions: Sequence[ShopQuestion]) -> pd.DataFrame:
    """One row for each way to search and depth (1, 3, 5): the share of places found there, with Wilson's interval."""
    import pandas as pd

    rows = list[dict[str, Any]]()
    ways: tuple[SearchWay, ...] = ("words", "meaning", "both")
    for by in ways:
        ranks = place_ranks(index, questions, by)
        for depth in (1, 3, 5):
            rate = Rate.of(rank is not None and rank <= depth for rank in ranks)
            low, high = rate.interval
            rows.append({"by": by, "first": depth, "found": rate.successes, "of": rate.trials})
            rows[-1] |= {"share": rate.share, "low": low, "high": high}
    return pd.DataFrame(rows)


def answered_row(chat: Chat, index: DocumentIndex, one: ShopQuestion) -> dict[str, Any]:
    """The question answered from the documents: what was written, what it cost, and what it is worth (see `judged`)."""
    hits = index.search(one.question, PASSAGES, SEARCHED_BY)
    started = time.perf_counter()
    given = answer_from(chat, one.question, hits)
    cost = _cost(given.reply) | {"seconds": round(time.perf_counter() - started, 2)}
    return judged(one, index, given.written, cut=cost["cut"]) | cost


def judged(one: ShopQuestion, index: DocumentIndex, written: str, *, cut: bool = False) -> dict[str, Any]:
    """What becomes of what a model wrote: the gate, the verdict on what is shown, and `found`, was the place there.

    `unchecked` is the verdict on what was written, had it been shown without looking whether it stands anywhere.
    """
    hits = index.search(one.question, PASSAGES, SEARCHED_BY)
    given = (
        with_sources(written, one.question, hits, cut=cut) if near_enough(hits) else SourcedAnswer((), "nothing near")
    )
    said_no = given.gate in ("nothing near", "the model")
    return {
        "question": one.question,
        "answerable": one.answerable,
        "found": any(one.stands_in(hit.passage) for hit in hits),
        "gate": given.gate,
        "verdict": one.verdict(given.text, refused=given.refused),
        "unchecked": one.verdict(written, refused=said_no),
        "answer": str(given),
        "written": written,
    }


def alone_row(chat: Chat, one: ShopQuestion) -> dict[str, Any]:
    """The question answered without the documents."""
    started = time.perf_counter()
    reply = chat.another(system=ALONE, temperature=0.0).say(one.question, max_new_tokens=MOST_NEW_TOKENS)
    return judged_alone(one, reply.text) | _cost(reply) | {"seconds": round(time.perf_counter() - started, 2)}


def judged_alone(one: ShopQuestion, written: str) -> dict[str, Any]:
    """What an answer without the documents is worth, shown as it was written."""
    refused = bool(REFUSAL.search(written)) or not written.strip()
    row = {"question": one.question, "answerable": one.answerable, "written": written}
    return row | {"verdict": one.verdict(written, refused=refused)}


def verdict_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each model and way: how many of its questions with an answer, and without, ended how."""
    import pandas as pd

    table = []
    for (model, way), part in rows.groupby(["model", "way"], sort=False):
        known, unknown = (part[part["answerable"] == flag]["verdict"].value_counts() for flag in (True, False))
        row = {"model": model, "way": way}
        row |= {verdict: int(known.get(verdict, 0)) for verdict in ("right", "refused", "wrong")}
        table.append(row | {"told apart": int(unknown.get("refused", 0)), "invented": int(unknown.get("wrong", 0))})
    return pd.DataFrame(table)


def _cost(reply: Reply | None) -> dict[str, Any]:
    if reply is None:
        return {"prompt_tokens": 0, "new_tokens": 0, "cut": False}
    tokens = {"prompt_tokens": reply.prompt_tokens, "new_tokens": reply.new_tokens}
    return tokens | {"cut": reply.finish_reason == "length"}
