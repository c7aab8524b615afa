"""A sentence with a verdict has its evidence within sight: a count, a share, an interval, a spread, or a source.

What a program can see of "a verdict never says more than its interval" is whether there is any number to look at. It
reads the markdown cells of all notebooks; whether number and verdict agree is for a reader to
judge.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
LESSONS = sorted((ROOT / "lessons").glob("0[0-3]_*.md"))
#: Words of the field that a beginner cannot guess; each is set off where it is explained.
TERMS = ("entropy", "harness", "cloze", "F1", "GGUF", "heads?", "gradient", "backpropagation", "KV cache", "perplexity")
#: Words that say how two things compare.
VERDICTS = (
    *("better", "best", "worse", "worst", "faster", "fastest", "slower", "slowest", "no difference", "as good"),
    *("as well as", "more often", "less often", "win", "wins", "beat", "beats", "fail", "fails", "failed", "helps"),
    *("does not help", "no gain", "gains", "solves", "breaks", "reliable", "less biased", "more biased"),
    *("cheaper", "dearer", "every model", "nearly all", "good at", "bad at", "strong at", "weak at", "improves"),
)
#: What can carry one.
EVIDENCE = (
    r"\d ?%|\d of \d|\d+ to \d+|\d(?:\.\d+)? times|interval|repeats|± ?\d",  # measured
    r"\[\d+\]|\bet al\.,? \d{4}|[A-Z]\w+ \d{4}\)|https?://",  # a source
    r"\b(?:low|high|min|max)\b",  # a table with its spread
)


def said(cell: Any) -> str:
    """What a reader sees of a cell: its text, or its outputs as text."""
    if cell.cell_type == "markdown":
        return re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join("".join(text) for text in shown)


def unsupported(cells: list[Any]) -> list[str]:
    """The sentences with a verdict that have no evidence in their own cell or in the cell before and after."""
    found = []
    for place, cell in enumerate(cells):
        near = "\n".join(said(one) for one in cells[max(0, place - 1) : place + 2])
        if cell.cell_type == "markdown" and not any(re.search(pattern, near) for pattern in EVIDENCE):
            found += [sentence for sentence in sentences(said(cell)) if verdict(sentence)]
    return found


def sentences(text: str) -> list[str]:
    """Statements only: a question claims nothing."""
    parts = re.split(r"(?<=[.!?:])\s+|\n\n|\n[-|]|(?m:^#.*$)", text)
    return [" ".join(part.split()) for part in parts if not part.rstrip().endswith("?")]


def verdict(sentence: str) -> bool:
    return bool(re.search(rf"\b(?:{'|'.join(VERDICTS)})\b", sentence))


def unexplained(text: str) -> list[str]:
    """The terms that a text uses before it sets them off, in bold or italics."""
    first = {term: re.search(rf"(\*?)\b{term}\b", text) for term in TERMS}
    return [term for term, found in first.items() if found and not found[1]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_verdict_has_its_evidence_within_sight(path: Path) -> None:
    assert unsupported(nbformat.read(path, as_version=4).cells) == []


def test_a_planted_verdict_without_evidence_is_found() -> None:
    plain = nbformat.v4.new_markdown_cell("Here it goes on.")
    planted = nbformat.v4.new_markdown_cell("Small models are better at this. Are they?")
    assert unsupported([plain, planted, plain]) == ["Small models are better at this."]
    counted = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", text="12 of 12 = 100 %")])
    assert unsupported([counted, planted, plain]) == []


def test_a_term_is_explained_where_it_first_stands() -> None:
    pages = [nbformat.read(path, as_version=4).cells for path in NOTEBOOKS]
    assert unexplained("\n".join(said(cell) for cells in pages for cell in cells if cell.cell_type == "markdown")) == []
    assert unexplained("\n".join(path.read_text(encoding="utf-8") for path in LESSONS)) == []


def test_a_planted_term_without_an_explanation_is_found() -> None:
    assert unexplained("Its perplexity is low. *Perplexity* says how low. Its **entropy** is high.") == ["perplexity"]
