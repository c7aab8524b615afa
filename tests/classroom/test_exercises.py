from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.checks import check
from helpers.classroom import grading
from helpers.classroom.__main__ import main
from helpers.classroom.cases import hidden_cases
from helpers.classroom.exercises import (
    BrokenSubmission,
    Task,
    agrees,
    code_cells,
    functions,
    notebook_named,
    solution_of,
    tasks,
)
from helpers.classroom.grading import asserted
from helpers.data import ROOT
from helpers.errors import InvalidInput

STEMS = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
ALL = [pytest.param(stem, task, id=f"{stem[:2]}-{task.name}") for stem in STEMS for task in tasks(stem)]


@pytest.mark.parametrize(("stem", "task"), ALL)
def test_an_exercise_has_hidden_cases_which_a_table_of_the_visible_ones_fails(stem: str, task: Task) -> None:
    solution = solution_of(stem, task.name)
    hidden = hidden_cases(task.spec, solution, task.cases, seed="a", close=task.close)
    answers = {repr(case): task.spec(*case) for case in task.cases}
    assert agrees(stem, task)
    assert check(solution, task.spec, hidden, close=task.close).passed
    assert check(lambda *case: answers.get(repr(case), 0), task.spec, hidden, close=task.close).state == "failed"


@pytest.mark.parametrize(("stem", "task"), ALL)
def test_an_unsolved_stub_is_not_tried_yet_and_a_constant_fails_with_a_counterexample(stem: str, task: Task) -> None:
    assert check(lambda *_: None, task.spec, task.cases, close=task.close).state == "not tried yet"
    constant = check(lambda *_: 0, task.spec, task.cases, close=task.close)
    assert constant.state == "failed"
    assert constant.call.startswith("yours(")


def largest(numbers: list[int], at_most: int) -> int:
    return max([one for one in numbers if one <= at_most], default=0)


SEEN = [([1, 5, 9], 5), ([2, 2], 9), ([8], 8)]


def test_a_seed_makes_the_cases_and_another_seed_others() -> None:
    one, again, other = (hidden_cases(largest, largest, SEEN, seed=seed) for seed in ("a", "a", "b"))
    assert one == again != other
    assert not [case for case in one if case in SEEN]


def test_what_is_never_larger_than_another_argument_stays_so() -> None:
    cases = hidden_cases(lambda a, b: a - b, lambda a, b: a - b, [(1, 5), (3, 3), (0, 9)], seed="a")
    assert len(cases) == 12
    assert all(low <= high for low, high in cases)


def test_a_case_on_which_spec_and_solution_part_or_fail_is_none() -> None:
    assert hidden_cases(lambda a: a, lambda a: -a, [(1,), (50,)], seed="a") == []
    assert hidden_cases(lambda a: 1 / 0, lambda a: 1, [(1,), (50,)], seed="a") == []


def test_a_function_comes_with_what_it_needs_and_without_what_it_does_not() -> None:
    cells = [
        "import math\nimport os",
        "def half(x):\n    return x / TWO",
        "TWO = 2",
        "def mine(x):\n    return math.ceil(half(x))",
    ]
    source = functions(cells, ["mine"])["mine"]
    space: dict[str, object] = {}
    exec(source, space)
    assert space["mine"](3) == 2
    assert "os" not in space


def test_the_last_of_several_counts_wherever_it_stands() -> None:
    assert "2" in functions(["def f(): return 1", "(((", "x = 3\n\n\ndef f(): return 2"], ["f"])["f"]


def test_names_of_the_grading_notebook_are_not_brought_along() -> None:
    cells = ["def check(*a): ...", "def spec_f(): return 1", "def f(): return check(spec_f())"]
    assert "def check" not in functions(cells, ["f"], taken=["check", "spec_f"])["f"]


@pytest.mark.parametrize("cell", ["f = 3", "class f: ...", "async def f(): ...", "if True:\n    def f(): ..."])
def test_what_is_no_function_at_the_top_is_missing(cell: str) -> None:
    assert functions([cell], ["f"]) == {}


def test_functions_that_call_each_other_are_found_once() -> None:
    assert functions(["def f(): return g()", "def g(): return f()"], ["f"])["f"].count("def ") == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}', '{"cells": [{}]}', "[" * 100_000])
def test_what_is_no_notebook_is_told_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.ipynb").write_text(text)
    with pytest.raises(BrokenSubmission, match="no notebook"):
        code_cells(tmp_path / "one.ipynb")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "one.ipynb").symlink_to("/etc/passwd")
    with pytest.raises(BrokenSubmission, match="no file"):
        code_cells(tmp_path / "one.ipynb")


def test_magics_are_left_out_of_a_cell(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": ["%matplotlib inline\n", "!ls\n", "x = 1"]}
    (tmp_path / "one.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert code_cells(tmp_path / "one.ipynb")[0].strip() == "x = 1"


def test_a_check_becomes_an_assert() -> None:
    assert asserted("cases = 1\ncheck(f, spec, cases)") == (
        "cases = 1\nverdict = check(f, spec, cases)\nassert verdict.passed, verdict"
    )


def test_only_the_step_that_collects_takes_a_folder_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grading, "collected", lambda _, *asked: [f"{stem} from {inbox}" for stem, inbox in [asked]])
    assert main(["--folder", str(tmp_path), "collect", "06", "--from", "inbox"]) == 0
    assert capsys.readouterr().out == "06_cloud_vs_local from inbox\n"
    with pytest.raises(SystemExit):
        main(["--folder", str(tmp_path), "grade", "06", "--from", "inbox"])
    assert "unrecognized arguments: --from" in capsys.readouterr().err


def test_a_notebook_is_named_by_its_number() -> None:
    assert notebook_named("06") == "06_cloud_vs_local"
    with pytest.raises(InvalidInput, match="06_cloud_vs_local"):
        notebook_named("6")
