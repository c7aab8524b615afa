"""Thirty conversations with the shop's assistant on every rung, or at a provider: how many end well, and their cost.

    python -m benchmarks.assistant_conversations [--rungs smollm2-135m …] [--provider nim]

Greedy, under the person's own rights, without other defences. What is stored is not held again, and a run that was
stopped goes on. Seconds are those of a machine that may do other things too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.assistant_attacks import CONTEXT
from benchmarks.report import keep
from helpers import machine
from helpers.assistant.conversations import Held, conversations, hold
from helpers.assistant.documents import SHOP
from helpers.assistant.index import open_index
from helpers.assistant.mcp_server import in_documents
from helpers.chat import open_chat
from helpers.data import FOLDER
from helpers.intervals import Rate
from helpers.measure import peak_memory
from helpers.models.fetching import rungs

STORED = FOLDER / "assistant_conversed.json"


def row_of(held: Held, where: Mapping[str, Any], peak_gib: float) -> dict[str, Any]:
    """A stored conversation: its answers and calls, its end, its cost."""
    said = [
        {"calls": "; ".join(map(str, answer.run.steps)), "answer": answer.text, "ending": answer.run.ending}
        for answer in held.answers
    ]
    cost = {"prompt_tokens": held.prompt_tokens, "new_tokens": held.new_tokens, "seconds": round(held.seconds, 1)}
    cost |= {"joules": held.joules, "peak_memory_gib": round(peak_gib, 2)}
    return {**where, "id": held.conversation.id, "came_about": held.came_about, **cost, "turns": said}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are stored; none where there is no file."""
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="+", default=[rung.name for rung in rungs()])
    parser.add_argument("--provider", help="where the model runs; here without it")
    parser.add_argument("--output", type=Path, default=STORED)
    asked = parser.parse_args()
    with open_index(SHOP) as index:
        for rung in asked.rungs:
            where = {"model": rung, "provider": asked.provider or "here"}
            with open_chat(rung, provider=asked.provider, context=CONTEXT) as chat:
                for one in conversations():
                    rows = read(asked.output)
                    if any((row["model"], row["provider"], row["id"]) == (*where.values(), one.id) for row in rows):
                        continue
                    with peak_memory() as peak:
                        held = hold(chat, one, in_documents(index))
                    keep(
                        asked.output,
                        {"machine": str(machine.describe()), "rows": [*rows, row_of(held, where, peak.gib)]},
                    )
            ends = [row["came_about"] for row in read(asked.output) if row["model"] == rung]
            print(f"{rung}: {Rate.of(ends)}", flush=True)


if __name__ == "__main__":
    main()
