"""Code that a model wrote is tried apart: right code passes, wrong code is told why, and hostile code ends."""

from __future__ import annotations

import os

import psutil
import pytest

from helpers.instruct import coding
from helpers.instruct.coding import Outcome, code_tasks
from talk import scripted

TASKS = {task.function: task for task in code_tasks()}
TAX = TASKS["with_tax"]
RIGHT = "def with_tax(price):\n    return price * 1.25"


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_each_task_can_be_solved_and_nothing_given_back_does_not_solve_it(task) -> None:
    assert coding.outcome(task.solution, task) == Outcome(True, "")
    assert not coding.outcome(f"def {task.function}(*_): pass", task).passed


def test_there_are_twenty_tasks_and_each_shows_its_first_test() -> None:
    assert len(TASKS) == len(code_tasks()) == 20
    assert all(f"`{name}(" in task.prompt for name, task in TASKS.items())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def with_tax(price): return price", "with_tax(100) gave 100, not 125"),
        ("def other(price): return price", "KeyError: 'with_tax'"),
        ("def with_tax(price)", "SyntaxError"),
        ("def with_tax(price): return 1 / 0", "ZeroDivisionError"),
        ("def with_tax(price): return {price}", "TypeError"),
        ("def with_tax(price): return with_tax(price)", "RecursionError"),
        ("import numpy", "ModuleNotFoundError"),
    ],
)
def test_a_failure_says_what_happened(code, reason) -> None:
    assert coding.outcome(code, TAX).reason.startswith(reason)


@pytest.mark.parametrize(
    "code",
    [
        "open('note.txt', 'w')",
        "import os; os.open('note.txt', os.O_CREAT | os.O_WRONLY)",
        "open(__import__('sys').argv[0])",
        "import os; os.remove('note.txt')",
        pytest.param("import os; os.fork()", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")),
        "import subprocess; subprocess.run(['python3'])",
        "import os; os.kill(os.getppid(), 15)",
        "import socket; socket.socket()",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1')",
        "import ctypes; ctypes.string_at(0)",
    ],
)
def test_what_reaches_out_is_refused_even_where_the_function_is_right(code) -> None:
    assert coding.outcome(f"{RIGHT}\n{code}", TAX).reason.startswith("PermissionError")


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "class E(Exception):\n    def __str__(self): raise self\nraise E",
    ],
)
def test_an_early_end_is_no_pass(code) -> None:
    assert not coding.outcome(f"{RIGHT}\n{code}", TAX).passed


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "while True: print('x' * 10000)",
        "import os\nwhile True: os.write(3, b'x' * 10000)",
        "text = []\nwhile True: text.append('x' * 10**6)",
        "text = [0] * 10**10",
    ],
)
def test_what_would_not_end_is_ended_and_leaves_no_process(code) -> None:
    assert not coding.outcome(code, TAX, seconds=1).passed
    assert not [child for child in psutil.Process().children() if "coding_child" in " ".join(child.cmdline())]


def test_memory_is_watched_where_the_system_has_no_limit(monkeypatch) -> None:
    code = "import time\ntext = 'x' * 60_000_000\ntime.sleep(60)"
    apart = coding._run_apart
    monkeypatch.setattr(coding, "_run_apart", lambda asked, *limits: apart({**asked, "memory_bytes": -1}, *limits))
    assert coding.outcome(code, TAX, memory_bytes=50 * 1024**2).reason == "took more than 50 MiB of memory"


def test_results_that_the_code_writes_itself_do_not_pass() -> None:
    forged = "import os\nfor number in range(9):\n    try: os.write(number, b'[{\"value\": 125}]')\n"
    forged += "    except OSError: pass\n"
    assert not coding.outcome(forged + "os._exit(0)", TAX).passed


def test_nothing_of_the_environment_is_handed_on(monkeypatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    code = "import os\ndef with_tax(price): return sorted(os.environ)"
    assert "API_KEY" not in coding.outcome(code, TAX).reason


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (1, True, False),
        (5.0, 5, True),
        (0.1 + 0.2, 0.3, True),
        ("1", 1, False),
        ([1, [2.0]], [1, [2]], True),
        (None, None, True),
    ],
)
def test_values_are_equal_when_their_kind_is(found, expected, same) -> None:
    assert coding._equal(found, expected) is same


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Sure:\n```python\nx = 1\n```\nIt sets x.", "x = 1"),
        ("```\nx = 1\n```\n```\ny\n```", "x = 1"),
        ("```py\nx = 1\ny", "x = 1\ny"),
        ("x = 1", "x = 1"),
        ("", ""),
    ],
)
def test_the_code_is_taken_out_of_the_answer(answer, code) -> None:
    assert coding.code_in(answer) == code


def test_a_model_is_asked_for_each_task_and_its_code_tried() -> None:
    row = coding.solve(scripted(f"```python\n{RIGHT}\n```"), [TAX]).iloc[0]
    assert (row["function"], row["code"], bool(row["passed"])) == ("with_tax", RIGHT, True)
