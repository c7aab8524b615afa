"""The exercises of a notebook as data, and the functions of a submission by name.

A learner may have copied, split, moved or deleted cells, edited checks, or renamed the kernel: what counts is the
function of the right name, with what it needs from the same notebook.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import checks
from helpers.data import ROOT
from helpers.errors import CourseError, InvalidInput

#: A submission larger than this is not read: pictures are outputs, and a function is short.
MOST_BYTES = 20_000_000


class BrokenSubmission(CourseError):
    """A file that was handed in and is no notebook."""


@dataclass(frozen=True, slots=True)
class Task:
    """One exercise: what is asked, the stub, the check as it stands, and what the check compares.

    `name` is the learner's function, `spec` the visible specification itself; `cases` are tuples of arguments.
    """

    name: str
    spec: Any
    statement: str
    stub: str
    check: str
    cases: tuple[tuple[Any, ...], ...]
    close: float


def notebook_named(number: str) -> str:
    """The whole stem of a notebook, from its number or its stem: "06" → "06_cloud_vs_local"."""
    found = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")) if path.stem.startswith(number)]
    if len(found) != 1:
        known = ", ".join(path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")))
        raise InvalidInput(f"No single notebook begins with {number!r}.", f"There are {known}.")
    return found[0]


def tasks(stem: str) -> list[Task]:
    """The exercises of a notebook whose attempt is a function, in order."""
    cells = json.loads((ROOT / "notebooks" / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    found = []
    for place, (kind, source) in enumerate(texts):
        called = re.search(r"(?m)^check\((\w+), spec_\w+", source) if kind == "code" else None
        if called:
            name = called[1]
            above = [one for one in range(place) if texts[one][0] == "code" and f"def {name}(" in texts[one][1]][-1]
            said = next((text for kind, text in reversed(texts[:above]) if kind == "markdown"), "")
            found.append(Task(name, statement=said, stub=texts[above][1], check=source, **_compared(source, name)))
    return found


def _compared(source: str, name: str) -> dict[str, Any]:
    """The spec of a check cell, the cases, and how close numbers must be: what it calls `check` with."""
    seen: dict[str, Any] = {}

    def check(_: Any, spec: Any, cases: Iterable[tuple[Any, ...]], close: float = 1e-9) -> None:
        seen.update(spec=spec, cases=tuple(cases), close=close)

    exec(compile(source, name, "exec"), {"check": check, name: None})
    return seen


def solution_path(stem: str) -> Path:
    """The file with the reference solutions of a notebook."""
    return ROOT / "solutions" / f"{stem}.py"


def solution_of(stem: str, name: str) -> Any:
    """The reference solution as a function."""
    spec = importlib.util.spec_from_file_location(f"solutions_{stem}", solution_path(stem))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def agrees(stem: str, task: Task) -> bool:
    """Whether the reference solution passes the visible check: a release without that is none."""
    return checks.check(solution_of(stem, task.name), task.spec, task.cases, close=task.close).passed


def code_cells(path: Path) -> list[str]:
    """The code of a notebook's cells, without magics; an error of this module's for what is no notebook."""
    try:
        if path.is_symlink() or not path.is_file():
            raise BrokenSubmission("it is no file")
        if path.stat().st_size > MOST_BYTES:
            raise BrokenSubmission(f"it is larger than {MOST_BYTES // 10**6} MB")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        joined = ["".join(text) if isinstance(text, list) else str(text) for text in texts]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BrokenSubmission(f"it is no notebook ({type(error).__name__})") from None
    return [re.sub(r"(?m)^[ \t]*[%!?].*$", "", text) for text in joined]


def functions(texts: Iterable[str], wanted: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """The source of each wanted function that the texts define, with what it needs from the top of them.

    Of several the last one counts, as it would in a notebook that ran from top to bottom. Names in `taken` belong to
    the grading notebook and are not brought along. A text that is no Python is passed over.
    """
    known: dict[str, tuple[ast.stmt, str]] = {}
    for text in texts:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for statement in tree.body:
            for name in _defines(statement):
                known[name] = (statement, ast.get_source_segment(text, statement) or "")
    blocked = {*taken}
    found = {}
    for name in wanted:
        if name in known and isinstance(known[name][0], ast.FunctionDef):
            needed = _needed(name, known, blocked - {name})
            # In the order of their statements, each once; the function itself last.
            sources = dict.fromkeys(known[one][1] for one in [*needed, name])
            found[name] = "\n\n".join(sources)
    return found


def defined(text: str) -> list[str]:
    """The names that a text of Python defines at its top."""
    return [name for statement in ast.parse(text).body for name in _defines(statement)]


def _defines(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef() | ast.ClassDef():
            return [statement.name]
        case ast.Import() | ast.ImportFrom():
            return [(one.asname or one.name).partition(".")[0] for one in statement.names]
        case ast.Assign():
            return [target.id for target in statement.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            return [name]
    return []


def _needed(name: str, known: Mapping[str, tuple[ast.stmt, str]], blocked: set[str]) -> list[str]:
    """The names that a statement uses, and those that these use, the deepest first."""
    order: list[str] = []
    seen = {name}

    def visit(one: str) -> None:
        for node in ast.walk(known[one][0]):
            used = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else ""
            if used in known and used not in seen and used not in blocked:
                seen.add(used)
                visit(used)
                order.append(used)

    visit(name)
    return order
