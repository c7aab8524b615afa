"""The shop's forty questions, answered by the ladder from the documents and without them, stored for notebook 09.

    python -m benchmarks.assistant [--models smollm2-135m qwen2.5-coder-0.5b qwen2.5-coder-1.5b]

Greedy. It goes on where it was stopped: what was written stays as long as the model's file and what it is asked are the
same. What it is worth is judged anew in each run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import keep
from helpers import catalog, machine
from helpers.assistant import answers, questions
from helpers.assistant.documents import SHOP
from helpers.assistant.index import DocumentIndex, open_index
from helpers.assistant.questions import ShopQuestion
from helpers.chat import open_chat
from helpers.data import FOLDER
from helpers.intervals import Rate

STORED = FOLDER / "assistant_09.json"
MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
WAYS = ("from the documents", "alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    asked = parser.parse_args()
    rows = json.loads(STORED.read_text(encoding="utf-8"))["rows"] if STORED.is_file() else []
    forty = questions.shop_questions()
    with tempfile.TemporaryDirectory() as folder, open_index(SHOP, Path(folder) / "shop.sqlite") as index:
        for name in asked.models:
            rows = run(name, index, forty, rows)
            for way in WAYS:
                of = [row for row in rows if (row["model"], row["way"]) == (name, way)]
                right = Rate.of(row["verdict"] == "right" for row in of if row["answerable"])
                told = Rate.of(row["verdict"] == "refused" for row in of if not row["answerable"])
                print(f"{name}, {way}: right {right}; refused without an answer {told}", flush=True)


def run(name: str, index: DocumentIndex, forty: list[ShopQuestion], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with those of this model, each stored as soon as it is there."""
    with open_chat(name, context=2048) as chat:
        for way in WAYS:
            for one in forty:
                mark, key = fingerprint(name, way, index, one), (name, way, one.question)
                if old := next((row for row in rows if row["mark"] == mark), None):
                    old |= judged(way, one, index, old)
                    continue
                row = questions.answered_row(chat, index, one) if way == WAYS[0] else questions.alone_row(chat, one)
                rows = [row for row in rows if (row["model"], row["way"], row["question"]) != key]
                rows.append({"model": name, "way": way, "mark": mark} | row)
                store(rows)
    store(rows)
    return rows


def judged(way: str, one: ShopQuestion, index: DocumentIndex, row: dict[str, Any]) -> dict[str, Any]:
    """What the written answer of a row is worth by today's code."""
    if way == WAYS[0]:
        return questions.judged(one, index, row["written"], cut=row["cut"])
    return questions.judged_alone(one, row["written"])


def fingerprint(name: str, way: str, index: DocumentIndex, one: ShopQuestion) -> str:
    """A mark of all that the answer depends on."""
    gguf = catalog.card(name).gguf
    said: list[Any] = [gguf and gguf.sha256, way, one.question, answers.MOST_NEW_TOKENS]
    if way == WAYS[0]:
        hits = index.search(one.question, questions.PASSAGES, questions.SEARCHED_BY)
        near = answers.near_enough(hits)
        said += [answers.READER, answers.passages_prompt(one.question, hits) if near else "nothing near"]
    else:
        said += [questions.ALONE]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def store(rows: list[dict[str, Any]]) -> None:
    """Writes what there is so far."""
    ordered = sorted(rows, key=lambda row: (MODELS.index(row["model"]), WAYS.index(row["way"])))
    keep(STORED, {"machine": str(machine.describe()), "rows": ordered})


if __name__ == "__main__":
    main()
