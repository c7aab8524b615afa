"""Verdicts on exercises: not tried yet, passed, or the first counterexample.

`check(mine, spec, cases)` runs the learner's function beside a slow, visible specification and shows where they
part. Nothing that the learner's code does, an exception included, stops the notebook. `quiz` judges the letters that
answer the questions at the end of a lesson.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import isclose, isnan
from numbers import Number
from typing import Any, Literal

from helpers.data import ROOT
from helpers.errors import InvalidInput

State = Literal["not tried yet", "passed", "failed"]
LESSONS = ROOT / "lessons"
#: Values longer than this are cut, so that a counterexample stays readable.
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: `state`, how many cases agreed, and the counterexample where they did not."""

    state: State
    agreed: int = 0
    call: str = ""
    yours: str = ""
    spec: str = ""

    @property
    def passed(self) -> bool:
        """Whether every case agreed with the specification."""
        return self.state == "passed"

    def __repr__(self) -> str:
        if self.state == "not tried yet":
            return "○ Not tried yet: the stub gives nothing back. Fill it in and run this cell again."
        if self.passed:
            return f"✓ Passed: {self.agreed} of {self.agreed} cases agree."
        return f"✗ Not yet: this case differs.\n\n    {self.call}\n    yours  {self.yours}\n    spec   {self.spec}"

    def _repr_markdown_(self) -> str:
        """The same text; its indented lines show as code, whatever characters they hold."""
        first, _, rest = repr(self).partition(":")
        return f"**{first}**:{rest}"


def check(
    attempt: Any, spec: Callable[..., Any] | Any, cases: Iterable[tuple[Any, ...]] = ((),), *, close: float = 1e-9
) -> Verdict:
    """The verdict on `attempt` against `spec` over `cases`, each a tuple of arguments.

    Numbers agree when they differ by at most `close`, relatively or absolutely, also inside lists, tuples, dicts
    and arrays. A stub returns None or `...`, or raises NotImplementedError. Either side may also be a plain
    value: `check(answer, 42)`. Both sides get their own copy of the arguments. An error in `spec` is raised.

    >>> check(lambda x: x + x, lambda x: x * x, [(2,), (3,)])
    ✗ Not yet: this case differs.
    <BLANKLINE>
        yours(3)
        yours  6
        spec   9
    """
    mine, theirs, name = _callable(attempt), _callable(spec), _name(attempt)
    agreed, counterexample, tried = 0, None, False
    for case in cases:
        expected = theirs(*deepcopy(case))
        blank, same, shown = _run(mine, case, expected, close)
        agreed += same
        tried = tried or not blank
        if not same and counterexample is None:
            call = f"{name}({', '.join(_shown(argument) for argument in case)})" if callable(attempt) else name
            counterexample = Verdict("failed", agreed, call, shown, _shown(expected))
        if counterexample and tried:
            return counterexample
    if counterexample:
        return Verdict("not tried yet")
    if not agreed:
        raise InvalidInput("A check needs at least one case, and this one was given none.", "Give check() a case.")
    return Verdict("passed", agreed)


@dataclass(frozen=True, slots=True)
class QuizVerdict:
    """What a quiz found: which questions of the lesson are right, of how many; None where nothing was answered."""

    lesson: str
    right: tuple[bool, ...] | None

    def __repr__(self) -> str:
        if self.right is None:
            return f"○ Not tried yet: five questions wait at the end of lessons/{self.lesson}.md."
        wrong = [str(number) for number, fine in enumerate(self.right, start=1) if not fine]
        again = f" Read question {', '.join(wrong)} again; the lesson's folded answers say why." if wrong else ""
        return f"{'✗' if wrong else '✓'} {sum(self.right)} of {len(self.right)} right.{again}"


def quiz(lesson: str, letters: str) -> QuizVerdict:
    """The verdict on one letter for each question at the end of a lesson, as in `quiz("00_start", "abcab")`.

    The right letters stand in the lesson alone, folded away. An empty string is not tried yet.
    """
    path = LESSONS / f"{lesson}.md"
    if not path.is_file():
        raise InvalidInput(f"There is no lesson {lesson!r}.", "Name it as its file, such as quiz('00_start', 'abcab').")
    folded = path.read_text(encoding="utf-8").partition("<summary>Answers</summary>")[2]
    right = re.findall(r"(?m)^\d+\. \*\*([a-z])\*\*", folded)
    given = re.sub(r"[\s,;]", "", letters).lower()
    if not given:
        return QuizVerdict(lesson, None)
    if len(given) != len(right):
        raise InvalidInput(
            f"The lesson has {len(right)} questions, and {len(given)} letters were given.", "Give each one."
        )
    return QuizVerdict(lesson, tuple(one == other for one, other in zip(given, right, strict=True)))


def _run(mine: Callable[..., Any], case: tuple[Any, ...], expected: Any, close: float) -> tuple[bool, bool, str]:
    """Whether the learner's answer is blank, whether it is right, and how it looks."""
    try:
        answer = mine(*deepcopy(case))
        same = _same(answer, expected, close)
        return not same and (answer is None or answer is ...), same, _shown(answer)
    except NotImplementedError:
        return True, False, "NotImplementedError"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the learner's code raises is an answer
        return False, False, f"{type(error).__name__}: {error}"


def _callable(side: Any) -> Callable[..., Any]:
    return side if callable(side) else lambda *_: side


def _name(attempt: Any) -> str:
    name = getattr(attempt, "__name__", "yours")
    return "yours" if name == "<lambda>" else name


def _same(left: Any, right: Any, close: float) -> bool:
    if hasattr(left, "tolist") or hasattr(right, "tolist"):  # arrays and tensors, also of one element
        left, right = (side.tolist() if hasattr(side, "tolist") else side for side in (left, right))
        left, right = (list(side) if isinstance(side, tuple) else side for side in (left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[key], right[key], close) for key in right)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        alike = type(left) is type(right) and len(left) == len(right)
        return alike and all(_same(one, other, close) for one, other in zip(left, right, strict=True))
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        both_missing = isnan(left) and isnan(right)
        return both_missing or isclose(left, right, rel_tol=close, abs_tol=close)
    if isinstance(left, Number) and isinstance(right, Number):
        return bool(abs(left - right) <= close * max(1.0, abs(right)))  # type: ignore[operator, arg-type]
    return bool(left == right)


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split("\n"))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
