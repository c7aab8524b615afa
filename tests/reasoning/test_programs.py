"""Programs of a model are reckoned exactly, and nothing in them is run."""

from __future__ import annotations

from fractions import Fraction

import pytest

from helpers.errors import InvalidInput
from helpers.reasoning.programs import reckon, value


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("answer = 3 * 4", 12),
        ("cost = 3 * 4  # euros\nanswer = 20 - cost\nprint(answer)", 8),
        ("```python\na = 1 / 3\nanswer = a * 3\n```", 1),
        ("Here it is:\n```\nanswer = 7 // 2 + 7 % 2 - -1\n```\nDone.", 5),
        ("(2 + 3) * 4", 20),
        ("answer = 0.1 + 0.2", Fraction(3, 10)),
        ("answer = 2 ** 10", 1024),
        ("mugs = 7 * 6", 42),
        ("a = 2\nprint('It is', a * 3)", 6),
    ],
)
def test_lines_are_followed_to_the_answer(program: str, answer: Fraction) -> None:
    assert reckon(program) == answer


@pytest.mark.parametrize(
    "program",
    [
        *("__import__('os').system('true')", "answer = open('x')", "answer = (1).real", "while True: pass"),
        *("answer = unknown + 1", "print()", "answer = 'ten'", "answer = 1 / 0", "answer = True", "answer = 1e400"),
        *("answer = 9 ** 9 ** 9", "answer = 2 ** 0.5", "answer = " + "(" * 500 + "1" + ")" * 500, "", "three pens"),
        "answer = " + "9" * 5000,
        "a = b = answer = 2",
    ],
)
def test_what_is_no_sum_is_refused_in_a_sentence(program: str) -> None:
    with pytest.raises(InvalidInput):
        reckon(program)


def test_an_expression_takes_names() -> None:
    assert value("a * (b - 1) / 2", {"a": 3, "b": 2}) == Fraction(3, 2)
    with pytest.raises(InvalidInput, match="`c`"):
        value("a + c", {"a": 1})
