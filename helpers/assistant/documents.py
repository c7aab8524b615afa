"""A folder of documents as passages: each says in which file, under which heading and on which page it stands.

Markdown and plain text, PDF with tables, and pictures of pages, which OCR reads (see vision/ocr.py). A passage is what
a search finds and a model reads, so it is cut where the document itself has a joint: at a heading, then between
paragraphs, then between sentences, and never in the middle of one. A table becomes a line for each row, with the name
of its column before each cell, since a number far from its column's name says nothing.

Documents are other people's: data, of whatever size and shape. What a file may have is bounded, a PDF is read in a
process of its own (see pdf_child.py), links are not followed, and a file that cannot be read is named with a sentence
why, while the others go on.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.data import FOLDER, ROOT
from helpers.errors import CourseError, InvalidInput

#: The shop of the course, as documents: pages, a price list as PDF, a scanned notice.
SHOP = FOLDER / "shop"
TEXTS, PICTURES = {".md", ".markdown", ".txt"}, {".png", ".jpg", ".jpeg", ".webp"}
#: What is read; a file of another kind is no document, and passed over in silence.
DOCUMENT_KINDS = TEXTS | PICTURES | {".pdf"}
#: What one file, and one folder, may have.
MOST_BYTES, MOST_CHARACTERS, MOST_PAGES = 16 * 1024**2, 1_000_000, 200
MOST_FILES, MOST_DEPTH = 2000, 8
#: What the process that reads a PDF may take.
PDF_SECONDS, PDF_MEMORY_BYTES = 60, 2 * 1024**3
#: The encoder reads 256 tokens, about 190 English words (see models/embeddings.py); headings need some of them.
LONGEST_WORDS = 120
#: A line as short as this that ends like no sentence stands above what follows.
TITLE_CHARACTERS = 60

_HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
#: Between what a sentence ends with and what one begins with.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[]?[A-ZÀ-Þ0-9])")


class Unreadable(InvalidInput):
    """A document that was not read: it is damaged, too large, or of another kind than its name says."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document: its `source` is the file's path in the folder, `page` a PDF's page from 1 on."""

    text: str
    source: str
    heading: str = ""
    page: int | None = None

    @property
    def place(self) -> str:
        """Where a reader finds it.

        >>> Passage("…", "returns.md", "Returns › Warranty").place
        'returns.md, Returns › Warranty'
        """
        page = f"page {self.page}" if self.page else ""
        return ", ".join(part for part in (self.source, page, self.heading) if part)

    @property
    def searched(self) -> str:
        """What a search compares with a question: the heading often holds the word that the text leaves out."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that was not read, and a sentence why."""

    source: str
    why: str

    def __str__(self) -> str:
        return f"{self.source}: {self.why}"


def document_files(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """The documents of a folder and of the folders in it, in the order of their names; and what was passed over.

    Hidden files and folders are no documents. A link is not followed: it could lead out of the folder.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder.", "Give the folder in which your documents lie.")
    found, left_out = list[Path](), list[LeftOut]()
    for place, folders, names in os.walk(folder):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (here / name).is_symlink())
        if depth == MOST_DEPTH and folders:
            deep = (here / folders[0]).relative_to(folder).as_posix()
            left_out.append(LeftOut(deep, f"folders are entered {MOST_DEPTH} deep, and this one lies deeper."))
            folders.clear()
        for name in sorted(names):
            path = here / name
            if (
                path.suffix.lower() in DOCUMENT_KINDS
                and not name.startswith(".")
                and path.is_file()
                and not path.is_symlink()
            ):
                found.append(path)
    for path in found[MOST_FILES:]:
        left_out.append(LeftOut(path.relative_to(folder).as_posix(), f"a folder may have {MOST_FILES:,} documents."))
    return found[:MOST_FILES], left_out


def read_document(path: Path, source: str | None = None) -> list[Passage]:
    """The passages of one document, in its order; `source` is the name that they carry. Raises `Unreadable`."""
    source, kind = source or path.name, path.suffix.lower()
    if kind not in DOCUMENT_KINDS:
        raise Unreadable(
            f"{kind or 'a file without ending'} is no document here.", f"Give {', '.join(sorted(DOCUMENT_KINDS))}."
        )
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise Unreadable(f"it has {size / 1024**2:.0f} MiB, and a document may have {MOST_BYTES // 1024**2}.")
        if kind in TEXTS:
            text = _text_of(path.read_bytes())
            return _marked_down(text, source) if kind != ".txt" else _plain(text, source)
        if kind == ".pdf":
            return [passage for page in _pdf_pages(path) for passage in _pdf_page(page, source)]
        return _plain(_titled(_read_picture(path)), source)
    except OSError as error:
        if isinstance(error, CourseError):
            raise
        raise Unreadable(f"it cannot be opened ({error.strerror or type(error).__name__}).") from error


def _text_of(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("it is no UTF-8.", "Save it as UTF-8.") from None
    if "\0" in text:
        raise Unreadable("it holds bytes that no text has.")
    return _bounded(text.replace("\r\n", "\n").replace("\r", "\n"))


def _bounded(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise Unreadable(f"it has {len(text):,} characters, and a document may have {MOST_CHARACTERS:,}.")
    return text


# From text to passages


def _marked_down(text: str, source: str) -> list[Passage]:
    """Markdown, cut at its headings; a `#` in a fence is code. Comments, which no reader sees, are left out."""
    passages, path, body = list[Passage](), list[str](), list[str]()
    fence = ""

    def flush() -> None:
        heading = " › ".join(part for part in path if part)
        passages.extend(Passage(part, source, heading) for part in _cut(_blocks("\n".join(body))))
        body.clear()

    for line in re.sub(r"<!--.*?(-->|\Z)", "", text, flags=re.DOTALL).split("\n"):
        if mark := _FENCE.match(line):
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        if not fence and (found := _HEADING.match(line)):
            flush()
            depth = len(found[1])
            path[:] = [*(path + [""] * depth)[: depth - 1], found[2]]
        else:
            body.append(line)
    flush()
    return passages


def _plain(text: str, source: str, page: int | None = None) -> list[Passage]:
    """Plain text, cut at the short lines that stand by themselves above what follows."""
    passages, heading, body = list[Passage](), "", list[str]()
    for block in [*_blocks(text), ""]:
        if not block or _is_title(block):
            passages.extend(Passage(part, source, heading, page) for part in _cut(body))
            heading, body = block or heading, []
        else:
            body.append(block)
    if heading and (not passages or passages[-1].heading != heading):  # a title with nothing below it
        passages.append(Passage(heading, source, "", page))
    return passages


def _is_title(block: str) -> bool:
    return "\n" not in block and len(block) <= TITLE_CHARACTERS and block[-1] not in ".!?:;,"


def _titled(text: str) -> str:
    """The text with its first line set apart, where that is a title."""
    first, _, rest = text.strip().partition("\n")
    return f"{first}\n\n{rest}" if rest and _is_title(first) else text


def _blocks(text: str) -> list[str]:
    """The paragraphs of a text; a Markdown table as a line for each row."""
    blocks = [block.strip("\n") for block in re.split(r"\n\s*\n", text) if block.strip()]
    return [_rows(_cells(block)) if _is_table(block) else block.strip() for block in blocks]


def _is_table(block: str) -> bool:
    lines = block.split("\n")
    return len(lines) > 2 and "|" in lines[0] and re.fullmatch(r"\s*\|?[\s:|-]*-[\s:|-]*", lines[1]) is not None


def _cells(block: str) -> list[list[str]]:
    first, _, *rest = block.split("\n")
    cut = [re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|")) for line in (first, *rest)]
    return [[cell.strip() for cell in row] for row in cut]


def _rows(cells: Sequence[Sequence[str]]) -> str:
    """A line for each row below the first, in which each cell follows the name of its column."""
    names = cells[0]
    lines = []
    for row in cells[1:]:
        named = [f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=False) if cell]
        lines.append("; ".join([*named, *row[len(names) :]]))
    return "\n".join(line for line in lines if line)


def _cut(blocks: Sequence[str]) -> Iterator[str]:
    """The blocks joined to passages of at most about `LONGEST_WORDS` words."""
    held, words = list[str](), 0
    for block in blocks:
        for part in _parts(block):
            count = len(part.split())
            if held and words + count > LONGEST_WORDS:
                yield "\n".join(held)
                held, words = [], 0
            held.append(part)
            words += count
    if held:
        yield "\n".join(held)


def _parts(block: str) -> list[str]:
    """The block itself or, where it is too long, its lines, sentences or words: the first cut that is fine enough."""
    if len(block.split()) <= LONGEST_WORDS:
        return [block]
    for cut in ("\n(?=[-*+|]|\\d+\\.|[^\n:]+: )", _SENTENCE_END):
        if len(parts := re.split(cut, block)) > 1:
            return [small for part in parts for small in _parts(part)]
    words = block.split()
    return [" ".join(words[start : start + LONGEST_WORDS]) for start in range(0, len(words), LONGEST_WORDS)]


# From pages to text


def _read_picture(image: Any) -> str:
    from helpers.vision.ocr import read_text

    try:
        return _bounded(read_text(image).text)
    except InvalidInput as error:
        raise Unreadable(error.message, error.next_step) from error


def _pdf_pages(path: Path) -> list[dict[str, Any]]:
    """What the child process found on each page: its `number`, `text`, `layout` and, where it has no text, `image`."""
    limits = {"memory_bytes": PDF_MEMORY_BYTES, "seconds": PDF_SECONDS, "pages": MOST_PAGES}
    command = [sys.executable, "-m", "helpers.assistant.pdf_child", json.dumps(limits)]
    try:
        with path.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, timeout=PDF_SECONDS, cwd=ROOT, check=False)
        told = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"it was not read within {PDF_SECONDS} seconds.") from None
    except ValueError:
        raise Unreadable("its reader broke off: it is damaged, or needs too much memory.") from None
    if "problem" in told:
        raise Unreadable(told["problem"])
    _bounded("".join(page["text"] for page in told["pages"]))
    return list(told["pages"])


def _pdf_page(page: dict[str, Any], source: str) -> list[Passage]:
    """A page's passages: its tables row by row, the rest as text. A page that is only a picture is read by OCR."""
    if page["image"]:
        return _plain(_titled(_read_picture(base64.b64decode(page["image"]))), source, page["number"])
    tables = _tables(page["layout"])
    in_tables = {" ".join(" ".join(row).split()) for table in tables for row in table}
    rest = [line for line in page["text"].split("\n") if " ".join(line.split()) not in in_tables]
    text = "\n\n".join([_titled("\n".join(rest)), *map(_rows, tables)])
    return _plain(text, source, page["number"])


def _tables(layout: str) -> list[list[list[str]]]:
    """The runs of lines that have the same number of columns, set apart by three spaces or more, and short cells.

    Two columns of prose look alike, but their cells are long.
    """
    tables, run = list[list[list[str]]](), list[list[str]]()
    for line in [*layout.split("\n"), ""]:
        row = re.split(r"\s{3,}", line.strip())
        if run and len(row) != len(run[0]):
            if len(run) > 1 and sum(len(cell) for one in run for cell in one) / sum(map(len, run)) < 30:
                tables.append(run)
            run = []
        if len(row) > 1:
            run.append(row)
    return tables
