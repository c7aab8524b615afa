"""A corpus that every Python installation ships: the standard library's source, its English, and generated sums.

The four steps of every pipeline, in small: `collect` documents, `clean` them, remove `duplicates`, `split` them so that
nothing held out was also trained on. A web-scale corpus adds languages, opinions and a thousand times the noise; the
steps stay the same (Penedo et al. 2024, FineWeb, sections 3.3 to 3.6).
"""

from __future__ import annotations

import ast
import hashlib
import os
import random
import re
import sysconfig
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from helpers.errors import InvalidInput
from helpers.words import words

#: Other people's packages, tests, and large parts that a Python may come without.
LEFT_OUT = set("site-packages dist-packages test tests idlelib lib2to3 ensurepip pydoc_data __pycache__".split())
#: Words in a row that two texts must share before we call the passage the same.
SHINGLE = 8
#: Shorter documents teach little and look alike.
SHORTEST = 80
SUMS_IN_A_DOCUMENT = 20
#: The fields of a statement that hold statements, in the order in which they are written.
BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")


@dataclass(frozen=True, slots=True)
class Document:
    """One text: its `kind`, and `source`, the module or topic that it came from."""

    kind: str
    source: str
    text: str


def collect(folder: Path | None = None, *, sums: int = 20_000, seed: int = 0) -> list[Document]:
    """Code, docstrings and language topics of the Python at `folder` (this one by default), and so many sums."""
    folder = folder or Path(sysconfig.get_path("stdlib"))
    documents = [d for path in _sources(folder) for d in _of_module(path, path.relative_to(folder).as_posix())]
    documents += _topics(folder)
    if not documents:
        raise InvalidInput(
            f"There is no Python source in {folder}, so the corpus is empty.",
            "Give the folder of a standard library, the one that holds os.py.",
        )
    return documents + list(arithmetic(sums, seed))


def arithmetic(count: int, seed: int = 0) -> Iterator[Document]:
    """`count` different sums such as "37 + 45 = 82", twenty to a document. No pair of numbers comes twice."""
    highest = 999
    pairs = (highest + 1) * (highest + 2) // 2
    if not 0 <= count <= pairs:
        raise InvalidInput(f"There are {pairs:,} different sums up to {highest}, not {count:,}.", "Ask for fewer.")
    chosen = random.Random(seed).sample(range((highest + 1) ** 2), min(2 * count + SUMS_IN_A_DOCUMENT, 10**6))
    # Only one of 3 + 5 and 5 + 3, or one of them could be trained on and the other held out.
    different = dict.fromkeys(tuple(sorted(divmod(number, highest + 1))) for number in chosen)
    lines = [f"{a} + {b} = {a + b}" for a, b in islice(different, count)]
    for start in range(0, len(lines), SUMS_IN_A_DOCUMENT):
        yield Document("arithmetic", f"sums {start}", "\n".join(lines[start : start + SUMS_IN_A_DOCUMENT]))


def clean(documents: Iterable[Document]) -> list[Document]:
    """The documents as tidy Unicode, without those that are too short or hold little but numbers and signs.

    Characters are composed (NFC), trailing blanks and runs of empty lines go, control characters too. Lines end as
    `str.splitlines` ends them, so also at a lone carriage return or U+2028. Generated sums are meant to be numbers and
    stay.
    """
    tidied = (replace(d, text=_tidy(d.text)) for d in documents)
    return [d for d in tidied if len(d.text) >= SHORTEST and (d.kind == "arithmetic" or _letters(d.text) > 0.4)]


def duplicates(documents: Iterable[Document], *, share: float = 0.5) -> set[int]:
    """The indices of documents of which at least `share` was already said by earlier ones.

    What was said is compared in shingles, runs of eight words, so a copy with another title is found too (Broder 1997).
    """
    if not 0 < share <= 1:
        raise InvalidInput(f"A share of {share} cannot be a limit.", "Choose one above 0 and up to 1.")
    seen: set[int] = set()
    found = set()
    for number, document in enumerate(documents):
        own = shingles(document.text)
        if len(own & seen) >= share * len(own):
            found.add(number)
        seen |= own
    return found


def shingles(text: str, length: int = SHINGLE) -> set[int]:
    """The hashes of every run of so many words, or characters of a script without spaces; a shorter text is one run.

    >>> len(shingles("a b c d", 3)), len(shingles("你好吗", 2))
    (2, 2)
    """
    numbers = [_number(word) for word in words(text, signs=True)]
    if len(numbers) < length:
        return {hash(tuple(numbers))}
    return set(map(hash, zip(*(numbers[n:] for n in range(length)), strict=False)))


@cache
def _number(word: str) -> int:
    """A word as a number. Python's own hash() of a string changes with each process; that of numbers does not."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=7).digest(), "big")


def split(documents: Iterable[Document], held_out: float = 0.05) -> tuple[list[Document], list[Document]]:
    """(to train on, held out): all documents of one source go to the same side.

    The side follows from a hash of the source's name, so it stays the same when documents are added.
    """
    if not 0 < held_out < 1:
        raise InvalidInput(f"A share of {held_out} cannot be held out.", "Choose one between 0 and 1.")
    sides: tuple[list[Document], list[Document]] = ([], [])
    for document in documents:
        number = int.from_bytes(hashlib.blake2b(document.source.encode(), digest_size=8).digest(), "big")
        sides[number < held_out * 2**64].append(document)
    if not all(sides):
        raise InvalidInput("One side of the split is empty.", "Give more documents, or hold out another share.")
    return sides


def kinds_table(documents: Iterable[Document]) -> list[dict[str, Any]]:
    """One row a kind: documents and megabytes (10⁶ bytes of UTF-8)."""
    rows: dict[str, dict[str, Any]] = {}
    for document in documents:
        row = rows.setdefault(document.kind, {"kind": document.kind, "documents": 0, "megabytes": 0.0})
        row["documents"] += 1
        row["megabytes"] += len(document.text.encode()) / 1e6
    return list(rows.values())


def _sources(folder: Path) -> list[Path]:
    paths = []
    for place, folders, files in os.walk(folder):
        folders[:] = set(folders) - LEFT_OUT  # not even looked into: other people's packages are many
        paths += [Path(place, name) for name in files if name.endswith(".py")]
    return sorted(paths)


def _of_module(path: Path, name: str) -> Iterator[Document]:
    """The code of a module without its docstrings, then each docstring."""
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):  # templates and files in old encodings
        return
    lines = source.split("\n")  # as the parser counts them: to it, a form feed ends no line
    docstrings = []
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                docstrings.append(text)
                string = node.body[0]
                lines[string.lineno - 1 : string.end_lineno] = [""] * ((string.end_lineno or 0) - string.lineno + 1)
    yield Document("code", name, "\n".join(lines))
    for text in docstrings:
        yield Document("docstrings", name, text)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that may hold statements, outer ones first: no expression holds one, and most nodes are expressions."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        yield node
        waiting.extend(child for field in BLOCKS for child in getattr(node, field, ()))


def _topics(folder: Path) -> Iterator[Document]:
    """The language reference as `help()` shows it, one document a topic."""
    path = folder / "pydoc_data" / "topics.py"
    if not path.is_file():
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    yield Document("reference", f"topic {key.value!s}", str(value.value))


def _tidy(text: str) -> str:
    lines = (line.expandtabs(4) for line in unicodedata.normalize("NFC", text).splitlines())
    tidied = ((line if line.isprintable() else _without_control(line)).rstrip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(tidied)).strip()


def _without_control(line: str) -> str:
    return "".join(c for c in line if unicodedata.category(c) != "Cc")


def _letters(text: str) -> float:
    return sum(map(str.isalpha, text)) / max(1, len(text) - sum(map(str.isspace, text)))
