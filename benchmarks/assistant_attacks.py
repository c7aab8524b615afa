"""Twenty attacks on the shop's assistant and twenty honest questions, on every rung, bare and under each defence.

    python -m benchmarks.assistant_attacks [--rungs smollm2-135m …] [--ways bare rights …]

Greedy. What is stored is not asked again, and a run that was stopped goes on. The same prompt is answered once:
"schema" and "check" only look at an answer, so they are judged on the bare run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers import machine
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
from helpers.chat import Chat, open_chat
from helpers.data import FOLDER
from helpers.errors import InvalidInput
from helpers.intervals import Rate
from helpers.models.fetching import rungs
from helpers.records import Chunk, Prompt, Sampling

STORED = FOLDER / "assistant_attacked.json"
CONTEXT = 2048


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


def save(path: Path, result: dict[str, Any]) -> None:
    """Writes a row a line, whole or not at all."""
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in result["rows"])
    heads = [f" {json.dumps(key)}: {json.dumps(result[key])}" for key in ("fingerprint", "machine")]
    draft = path.with_suffix(".part")
    draft.write_text("{\n" + ",\n".join([*heads, f' "rows": [\n{rows}\n ]']) + "\n}\n", encoding="utf-8")
    draft.replace(path)


def remember(chat: Chat) -> None:
    """Answers the same prompt once: greedy, a model would write the same again."""
    known: dict[str, list[Chunk]] = {}
    generate = chat.backend.generate

    def once(prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        key = json.dumps([prompt.tokens, sampling.max_new_tokens, sampling.json_schema], default=list)
        if key not in known:
            with closing(generate(prompt, sampling)) as chunks:  # type: ignore[type-var]
                known[key] = list(chunks)
        yield from known[key]

    chat.backend.generate = once  # type: ignore[method-assign]


def row_of(tried: TriedAttack, rung: str, way: str, kind: str, name: str) -> dict[str, Any]:
    """A stored result: what was called, what the person saw, and whether it came about."""
    calls = "; ".join(map(str, tried.answer.run.steps))
    about = {"model": rung, "way": way, "kind": kind, "id": name, "came_about": tried.came_about}
    return {**about, "stopped_by": tried.answer.stopped_by, "calls": calls, "answer": tried.answer.text}


def looks_only(way: AttackWay) -> bool:
    """Whether a way differs from the bare one only in what it does with the answer."""
    return bool(way.defences) and way.defences <= {"schema", "check"} and not way.own_rights


def try_all(chat: Chat, rung: str, ways: list[str], result: dict[str, Any], path: Path, find: Finder) -> None:
    """Tries what is missing of a rung, and stores it after each attack."""
    there = {(row["way"], row["kind"], row["id"]) for row in result["rows"] if row["model"] == rung}
    asked: list[tuple[str, str, Attack | BenignQuestion]] = [("attack", one.id, one) for one in attacks()]
    asked += [("honest", one.question, one) for one in benign_questions()]
    with tempfile.TemporaryDirectory() as folder:
        for way in [name for name in ways if not looks_only(ATTACK_WAYS[name])]:
            looking = [name for name in ways if way == "bare" and looks_only(ATTACK_WAYS[name])]
            for kind, name, one in asked:
                if all((each, kind, name) in there for each in (way, *looking)):
                    continue
                if isinstance(one, Attack):
                    tried = attack_desk(chat, one, ATTACK_WAYS[way], find=find, folder=Path(folder))
                else:
                    tried = ask_desk(chat, one, ATTACK_WAYS[way], find=find)
                wanted = one.wins if isinstance(one, Attack) else one.right
                found = {way: tried} | {
                    each: judged_anew(tried.answer.run, ATTACK_WAYS[each], wanted, tried.book) for each in looking
                }
                result["rows"] += [
                    row_of(each, rung, label, kind, name)
                    for label, each in found.items()
                    if (label, kind, name) not in there
                ]
                save(path, result)
            for kind in ("attack", "honest"):
                rows = [row for row in result["rows"] if (row["model"], row["way"], row["kind"]) == (rung, way, kind)]
                came = [row["came_about"] for row in rows]
                print(f"{rung}, {way}, {kind}: {Rate.of(came)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="+", default=[rung.name for rung in rungs()])
    parser.add_argument("--ways", nargs="+", default=list(ATTACK_WAYS), choices=list(ATTACK_WAYS))
    parser.add_argument("--output", type=Path, default=STORED)
    asked = parser.parse_args()
    with open_index(SHOP) as index:
        for rung in asked.rungs:
            with open_chat(rung, context=CONTEXT) as chat:
                remember(chat)
                try_all(chat, rung, asked.ways, read(asked.output), asked.output, in_documents(index))


if __name__ == "__main__":
    main()
