"""A learner's function in a process of its own, and what it cannot do there."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.checks import check
from helpers.classroom.apart import Apart, SubmissionTooSlow
from helpers.classroom.apart_child import packed, unpacked
from helpers.data import ROOT

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


@pytest.fixture
def made() -> Iterator[Any]:
    open_ones: list[Apart] = []

    def make(source: str, **more: Any) -> Apart:
        open_ones.append(Apart("f", source, **more))
        return open_ones[-1]

    yield make
    for one in open_ones:
        one.close()


@pytest.mark.parametrize(
    "value", [None, True, 3, -(10**30), 0.1, math.inf, "ä\n", [1, (2, [])], {1: (2,), "a": None}, [], ()]
)
def test_a_value_passes_as_it_is(value: Any) -> None:
    assert unpacked(packed(value)) == value
    assert type(unpacked(packed(value))) is type(value)


def test_a_value_without_a_form_equals_nothing() -> None:
    assert unpacked(packed({1, 2})) != {1, 2}
    assert type(unpacked(packed(object()))).__name__ == "object"


def test_a_function_is_judged_as_if_it_were_here(made: Any) -> None:
    double = made("def f(x):\n    return [x, 2.5]")
    assert check(double, lambda x: [x, 2.5], [(1,), ((2, 3),)]).passed
    assert check(made("def f(x): ..."), lambda x: x, [(1,)]).state == "not tried yet"
    assert check(made("def f(x):\n    raise NotImplementedError"), lambda x: x, [(1,)]).state == "not tried yet"


def test_what_it_raises_is_told_by_its_name(made: Any) -> None:
    verdict = check(made("def f(x):\n    return 1 / 0"), lambda x: x, [(1,)])
    assert verdict.yours == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    "body",
    [
        "open('/etc/passwd')",
        f"open({str(ROOT / 'solutions' / '00_start.py')!r})",
        "open('/tmp/x', 'w')",
        "__import__('os').fork()",
        "__import__('os').kill(1, 9)",
        "__import__('os').system('true')",
        "__import__('socket').socket()",
        "__import__('subprocess').run(['true'])",
    ],
)
def test_files_programs_and_the_network_are_closed(made: Any, body: str) -> None:
    with pytest.raises(Exception, match=r"closed here|No module|denied"):
        made(f"def f():\n    {body}\n    return 1")()


def test_it_may_write_a_file_in_its_own_folder_which_is_thrown_away(made: Any) -> None:
    one = made("import os\ndef f():\n    open('x', 'w').write('1')\n    return os.getcwd()")
    folder = one()
    one.close()
    assert "slm-apart-" in folder
    assert not __import__("pathlib").Path(folder).exists()


def test_nothing_of_this_environment_is_there(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    assert "SECRET_KEY" not in made("import os\ndef f():\n    return list(os.environ)")()


def test_an_endless_loop_ends_and_costs_its_time_once(made: Any) -> None:
    endless = made("def f():\n    while True: pass", seconds=0.5)
    for _ in range(3):
        with pytest.raises(SubmissionTooSlow, match=r"longer than 0\.5 s"):
            endless()


@pytest.mark.parametrize("body", ["__import__('os')._exit(0)", "'x' * 10**7", "[0] * 10**10"])
def test_what_ends_or_fills_its_process_is_an_error_here(made: Any, body: str) -> None:
    with pytest.raises(Exception, match=r"ended|^$"):
        made(f"def f():\n    return {body}")()


@ONLY_LINUX
def test_the_walls_stand_below_python_too(made: Any) -> None:
    """C functions pass Python's hook by: then the system itself has to refuse."""
    one = made(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"def f():\n    return (libc.open({str(ROOT / 'solutions' / '00_start.py').encode()!r}, 0), libc.fork(),"
        " libc.connect(libc.socket(2, 1, 0), b'\\x02\\x00\\x00\\x50\\x7f\\x00\\x00\\x01' + bytes(8), 16))"
    )
    try:
        found = one()
    except Exception as error:  # noqa: BLE001 - this Python cannot load ctypes there, which is a wall as well
        found = (-1, -1, -1) if "closed" in str(error) or "No module" in str(error) else str(error)
    assert found == (-1, -1, -1)
    assert "limits" in one.walls or not one.walls
