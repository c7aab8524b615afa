"""Twenty attacks on the shop's assistant and twenty honest questions, on every rung, bare and under each defence.

    python -m benchmarks.assistant_attacks [--rungs smollm2-135m …] [--ways bare rights …]

Greedy. What is stored is not asked again, and a run that was stopped goes on. Nor is a run made again that would be the
same: "schema" and "check" only look at an answer, and rights change nothing where no order is touched.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import keep
from helpers import machine
from helpers.agents.agent import Choice, Run, Step
from helpers.assistant import desk
from helpers.assistant.attacks import (
    ATTACK_WAYS,
    Attack,
    AttackWay,
    BenignQuestion,
    TriedAttack,
    ask_desk,
    attack_desk,
    attacks,
    benign_questions,
    judged_anew,
)
from helpers.assistant.documents import SHOP
from helpers.assistant.index import open_index
from helpers.assistant.mcp_server import Finder, in_documents
from helpers.assistant.orders import OrderBook
from helpers.chat import Chat, open_chat
from helpers.data import FOLDER
from helpers.errors import InvalidInput
from helpers.intervals import Rate
from helpers.models.fetching import rungs

STORED = FOLDER / "assistant_attacked.json"
CONTEXT = 2048
#: A call that comes to the same for everybody, Anna's own orders among them, and no call at all.
HARMLESS = re.compile(r"$|search_pages\(|price_of\(|calculator\(|look_up_order\(number=10(42|57)\)")


def fingerprint() -> str:
    """Of all that an answer depends on beside the model."""
    asked = [[asdict(one) for one in attacks()], [asdict(one) for one in benign_questions()]]
    told = [desk.DESK_PROMPT, desk.DELIMITED, desk.DATAMARKED, desk.DESK_EXAMPLES]
    return hashlib.sha256(json.dumps([asked, told], sort_keys=True).encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, Any]:
    """What is stored, where it belongs to today's attacks and prompts; an empty result where there is none."""
    if not path.is_file():
        return {"fingerprint": fingerprint(), "machine": str(machine.describe()), "rows": []}
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if result["fingerprint"] != fingerprint():
        raise InvalidInput(f"{path.name} holds answers to other attacks.", "Move it away, or give --output.")
    return result


def same_run(row: Mapping[str, Any], question: str) -> Run | None:
    """The run of a stored row, where whose rights the tools have cannot have changed it; None where it may have.

    Whoever asks gets the same from the search, the price list, the calculator and an own order. A run that called one
    of these, or nothing, need not be made again.
    """
    call, _, result = row["calls"].partition(" → ")
    if row["answer"] == desk.STOPPED or "; " in call or result.count(" → ") or not HARMLESS.match(call):
        return None
    steps = [Step(Choice(call, {}, ""), result, False, 0.0)] if call else []
    return Run(question, tuple(steps), row["answer"], "answered")


def row_of(tried: TriedAttack, rung: str, way: str, kind: str, name: str) -> dict[str, Any]:
    """A stored result: what was called, what the person saw, and whether it came about."""
    calls = "; ".join(map(str, tried.answer.run.steps))
    about = {"model": rung, "way": way, "kind": kind, "id": name, "came_about": tried.came_about}
    return {**about, "stopped_by": tried.answer.stopped_by, "calls": calls, "answer": tried.answer.text}


def looks_only(way: AttackWay) -> bool:
    """Whether a way differs from the bare one only in what it does with the answer."""
    return bool(way.defences) and way.defences <= {"schema", "check"} and not way.own_rights


def unmarked(way: str) -> str:
    """The way with the shop's rights under which the model is shown the same; what it has stored may be judged anew."""
    marks = ATTACK_WAYS[way].defences & set(desk.DATA_MARKS)
    return next(name for name, one in ATTACK_WAYS.items() if one == AttackWay(marks))


class Trial:
    """All that is tried on one rung; what is missing is tried, and stored after each attack."""

    def __init__(self, chat: Chat, rung: str, path: Path, find: Finder) -> None:
        self.chat, self.rung, self.path, self.find, self.result = chat, rung, path, find, read(path)

    def stored(self, way: str, kind: str, name: str) -> dict[str, Any] | None:
        """The row, if it is there."""
        key = (self.rung, way, kind, name)
        rows = self.result["rows"]
        return next((row for row in rows if (row["model"], row["way"], row["kind"], row["id"]) == key), None)

    def run(self, way: str, kind: str, asked: list[tuple[str, Attack | BenignQuestion]]) -> None:
        """Tries all of a kind under one way."""
        with tempfile.TemporaryDirectory() as folder:
            for name, one in asked:
                if self.stored(way, kind, name) is None:
                    tried = self.judged(way, kind, name, one) or self.tried(way, one, Path(folder))
                    self.result["rows"].append(row_of(tried, self.rung, way, kind, name))
                    keep(self.path, self.result)
        came = [row["came_about"] for name, _ in asked if (row := self.stored(way, kind, name))]
        print(f"{self.rung}, {way}, {kind}: {Rate.of(came)}", flush=True)

    def judged(self, way: str, kind: str, name: str, one: Attack | BenignQuestion) -> TriedAttack | None:
        """What a stored run comes to under this way, if it would be the same run."""
        row = self.stored(unmarked(way), kind, name)
        run = same_run(row, one.question) if row else None
        wanted = one.wins if isinstance(one, Attack) else one.right
        return judged_anew(run, ATTACK_WAYS[way], wanted, OrderBook.of_the_shop()) if run else None

    def tried(self, way: str, one: Attack | BenignQuestion, folder: Path) -> TriedAttack:
        """The attack or the question, put to the model."""
        if isinstance(one, Attack):
            return attack_desk(self.chat, one, ATTACK_WAYS[way], find=self.find, folder=folder)
        return ask_desk(self.chat, one, ATTACK_WAYS[way], find=self.find)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="+", default=[rung.name for rung in rungs()])
    parser.add_argument("--ways", nargs="+", default=list(ATTACK_WAYS), choices=list(ATTACK_WAYS))
    parser.add_argument("--kinds", nargs="+", default=["attack", "honest"], choices=["attack", "honest"])
    parser.add_argument("--output", type=Path, default=STORED)
    asked = parser.parse_args()
    kinds: dict[str, list[tuple[str, Attack | BenignQuestion]]] = {
        "attack": [(one.id, one) for one in attacks()],
        "honest": [(one.question, one) for one in benign_questions()],
    }
    with open_index(SHOP) as index:
        for rung in asked.rungs:
            with open_chat(rung, context=CONTEXT) as chat:
                trial = Trial(chat, rung, asked.output, in_documents(index))
                for way in asked.ways:
                    for kind in asked.kinds:
                        trial.run(way, kind, kinds[kind])


if __name__ == "__main__":
    main()
