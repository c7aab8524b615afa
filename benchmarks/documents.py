"""Questions on six drawn pages, answered by the ladder from what OCR read, and stored for notebook 04.

    python -m benchmarks.documents [--models qwen2.5-coder-0.5b qwen2.5-coder-1.5b]

Two receipts, two tables and two labelled charts, from seeds that no test or notebook uses; greedy. It goes on where it
was stopped: what is stored stays if the model's file and the question with its prompt's page are still the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from typing import Any

from benchmarks.report import keep
from helpers import catalog, machine
from helpers.chat import Chat, open_chat
from helpers.data import FOLDER
from helpers.intervals import Rate
from helpers.vision import document_qa, documents, ocr
from helpers.vision.documents import DrawnPage

STORED = FOLDER / "documents_04.json"
MODELS = ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
EACH, FIRST_SEED = 2, 1000
#: The values of a bare chart never reach a reader.
LEFT_OUT = "bare chart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    asked = parser.parse_args()
    pages = [page for page in documents.collection(EACH, FIRST_SEED) if page.kind != LEFT_OUT]
    rows = json.loads(STORED.read_text(encoding="utf-8"))["rows"] if STORED.is_file() else []
    for name in asked.models:
        with open_chat(name) as chat:
            for number, page in enumerate(pages):
                mark = fingerprint(name, page)
                if any(row["mark"] == mark for row in rows):
                    continue
                rows = [row for row in rows if (row["model"], row["page"]) != (name, number)]
                rows += [{"model": name, "page": number, "mark": mark} | row for row in answered(chat, page)]
                keep(STORED, {"machine": str(machine.describe()), "rows": rows})
        for form in ("lookup", "compare"):
            of = [row["right"] for row in rows if (row["model"], row["form"]) == (name, form)]
            print(f"{name}, {form}: {Rate.of(of)}", flush=True)


def fingerprint(model: str, page: DrawnPage) -> str:
    """A mark of all that an answer depends on: the model's file, and the page as OCR reads it with its questions."""
    gguf = catalog.card(model).gguf
    said = [gguf and gguf.sha256, ocr.read_text(page.image).text, document_qa.PAGE_PROMPT, document_qa.BRIEFLY]
    said += [question.text for question in page.questions]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def answered(chat: Chat, page: DrawnPage) -> list[dict[str, Any]]:
    """A row for each question: its kind of page, its form, the answer, the reply, and whether it is right."""
    table = document_qa.scored({"pipeline": document_qa.by_model(chat, conversation=True)}, [page])
    return table[["kind", "form", "question", "answer", "reply", "right"]].to_dict("records")


if __name__ == "__main__":
    main()
