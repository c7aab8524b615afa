"""A release, submissions of every kind, and their grades, by nbgrader's own commands. Nightly."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from helpers.classroom import environments, grading
from helpers.classroom.exercises import solution_path, tasks
from helpers.classroom.folder import ClassFolder
from helpers.errors import CourseError

pytestmark = pytest.mark.nightly
STEM = "06_cloud_vs_local"
POINTS = 2 * len(tasks(STEM))
RIGHT = solution_path(STEM).read_text(encoding="utf-8")
WRONG = "\n\n".join(f"def {task.name}(*arguments):\n    return 0" for task in tasks(STEM))
#: Each tries to be right by something else than its own work, or to keep the others from being graded.
MALICIOUS = {
    "loops": "def {name}(*arguments):\n    while True:\n        pass",
    "forks": "import os\ndef {name}(*arguments):\n    while True:\n        os.fork()",
    "calls_home": "def {name}(*arguments):\n    import socket\n    return socket.create_connection(('127.0.0.1', 80))",
    "reads": "def {name}(*arguments):\n    space = {{}}\n    exec(open(SOLUTIONS).read(), space)\n"
    "    return space['{name}'](*arguments)",
    "overwrites": "def {name}(*arguments):\n    import __main__, builtins\n"
    "    builtins.check = __main__.check = lambda *a: 1\n    return __main__.spec_{name}(*arguments)",
    "imports": "def {name}(*arguments):\n    import helpers.checks\n    helpers.checks.check = None\n    return 1",
}


def hand_in(path: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    nbformat.write(notebook, path)


def everywhere(text: str) -> list[str]:
    text = text.replace("SOLUTIONS", repr(str(solution_path(STEM))))
    return [
        "check = lambda *a, **k: type('V', (), {'passed': True})",
        *(text.format(name=task.name) for task in tasks(STEM)),
    ]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClassFolder, dict[str, str], dict[str, float]]:
    try:
        environments.ensure("grading")
    except CourseError as error:
        pytest.skip(str(error))
    folder, inbox = ClassFolder(tmp_path_factory.mktemp("class")), tmp_path_factory.mktemp("inbox")
    grading.release(folder, STEM)
    hand_in(inbox / "right.ipynb", "%matplotlib inline\n!ls", "this is no Python", RIGHT)
    hand_in(inbox / "wrong.ipynb", WRONG)
    for name, text in MALICIOUS.items():
        hand_in(inbox / f"{name}.ipynb", *everywhere(text))
    (inbox / "broken.ipynb").write_text("{")
    told = {one.name: str(one) for one in grading.collected(folder, STEM, inbox)}
    with grading.grade(folder, STEM).open(encoding="utf-8") as file:
        marks = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    return folder, told, marks


def test_what_learners_get_has_neither_solutions_nor_hidden_cases(graded: Any) -> None:
    given = grading.released(graded[0], STEM).read_text(encoding="utf-8")
    assert "HIDDEN" not in given
    assert "0.5 * 2 **" not in given
    assert given.count("assert verdict.passed") == len(tasks(STEM))


def test_the_right_ones_get_all_points_and_the_wrong_ones_none(graded: Any) -> None:
    folder, _, marks = graded
    assert marks[folder.pseudonym("right")] == POINTS
    assert marks[folder.pseudonym("wrong")] == 0


@pytest.mark.parametrize("name", MALICIOUS)
def test_nothing_is_won_but_by_the_functions_own_work(graded: Any, name: str) -> None:
    folder, _, marks = graded
    assert marks[folder.pseudonym(name)] == 0


def test_a_broken_notebook_is_named_and_stops_no_other(graded: Any) -> None:
    _, told, marks = graded
    assert told["broken"] == "broken: not graded, it is no notebook (JSONDecodeError)"
    assert len(marks) == 2 + len(MALICIOUS)


def test_no_name_stands_in_what_nbgrader_keeps(graded: Any) -> None:
    place = graded[0].at("grading")
    kept = [path for path in place.rglob("*") if path.is_file() and "handback" not in path.parts]
    assert [path.name for path in kept if b"calls_home" in path.read_bytes() or "right" in path.name] == []


def test_each_gets_a_page_that_says_where_theirs_went_wrong(graded: Any) -> None:
    folder = graded[0]
    pages = {page.stem: page.read_text(encoding="utf-8") for page in grading.feedback(folder, STEM)}
    assert set(pages) == {"right", "wrong", *MALICIOUS}
    assert "wait_before_retry(1, None, 10)" in pages["wrong"]
    assert "took longer than 10 s" in pages["loops"]


def test_the_same_seed_makes_the_same_assignment_and_another_class_another(graded: Any, tmp_path: Path) -> None:
    other = ClassFolder(tmp_path)
    other.make()
    one, again, third = (
        json.dumps(grading.source_notebook(folder, STEM, tasks(STEM))) for folder in (graded[0], graded[0], other)
    )
    assert one == again != third
