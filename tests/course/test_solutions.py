"""Every exercise: the stub is not tried yet, the solution passes its own notebook's check, a wrong answer does not."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

from helpers import checks
from helpers.checks import Verdict

ROOT = Path(__file__).resolve().parents[2]


def exercises() -> Iterator[Any]:
    """Each check cell whose attempt is a function: the notebook's stem, that function's name, the cell."""
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            called = re.search(r"(?m)^check\((\w+), spec_\w+", cell.source) if cell.cell_type == "code" else None
            if called:
                yield pytest.param(path.stem, called[1], cell.source, id=f"{path.stem}-{called[1]}")


EXERCISES = list(exercises())


def solutions(stem: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"solutions_{stem}", ROOT / "solutions" / f"{stem}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verdict(cell: str, name: str, attempt: Any) -> Verdict:
    """What the notebook's own check cell, with its own spec and cases, says of an attempt."""
    verdicts: list[Verdict] = []

    def check(*arguments: Any, **options: Any) -> Verdict:
        verdicts.append(checks.check(*arguments, **options))
        return verdicts[-1]

    exec(compile(cell, name, "exec"), {"check": check, name: attempt})
    return verdicts[0]


@pytest.mark.parametrize(("stem", "name", "cell"), EXERCISES)
def test_the_solution_passes(stem: str, name: str, cell: str) -> None:
    assert verdict(cell, name, getattr(solutions(stem), name)).passed


@pytest.mark.parametrize(("stem", "name", "cell"), EXERCISES)
def test_an_unsolved_stub_is_not_tried_yet(stem: str, name: str, cell: str) -> None:
    assert verdict(cell, name, lambda *_: None).state == "not tried yet"


@pytest.mark.parametrize(("stem", "name", "cell"), EXERCISES)
def test_a_constant_answer_fails_with_a_counterexample(stem: str, name: str, cell: str) -> None:
    answer = verdict(cell, name, lambda *_: 0)
    assert answer.state == "failed"
    assert answer.call.startswith("yours(")
