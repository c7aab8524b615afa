r"""Sums that a model wrote as Python, reckoned exactly and without running any code.

    reckon("cost = 3 * 4\nanswer = 20 - cost")       # Fraction(8, 1)

The text is parsed to a tree (Python's `ast`), and only numbers, names, brackets and + - * / // % ** are followed.
Anything else is refused, so there is nothing that a program of a stranger could do here (Gao et al. 2023, PAL, let the
interpreter run it instead). Numbers are fractions: a third of three is one.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from helpers.errors import InvalidInput

#: A power above it, or a number with more bits, is no sum of a shop, and would fill the memory.
MOST_POWER, MOST_BITS = 64, 4096
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv},
    **{ast.FloorDiv: lambda a, b: Fraction(a // b), ast.Mod: operator.mod, ast.Pow: lambda a, b: _power(a, b)},
}
FENCE = re.compile(r"```[a-z]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def value(expression: str, names: Mapping[str, int | Fraction] | None = None) -> Fraction:
    """What one expression comes to, with the names' values; `InvalidInput` says what in it is no sum.

    >>> value("(a + 1) / 2", {"a": 4})
    Fraction(5, 2)
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, MemoryError, RecursionError, ValueError):
        raise InvalidInput("This is no expression of numbers.") from None
    return _follow(tree, {name: Fraction(number) for name, number in (names or {}).items()})


def reckon(program: str) -> Fraction:
    """The value of `answer` after lines such as `cost = 3 * 4`, or of the only line where it is a bare expression.

    A fence around the lines is taken off; comments and `print(…)` are passed over. `InvalidInput` says what stopped it.
    """
    fenced = FENCE.search(program)
    try:
        lines = ast.parse(fenced[1] if fenced else program.strip()).body
    except (SyntaxError, MemoryError, RecursionError, ValueError):
        raise InvalidInput("This is no Python.") from None
    names: dict[str, Fraction] = {}
    for line in lines:
        if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
            names[line.targets[0].id] = _follow(line.value, names)
        elif isinstance(line, ast.Expr) and len(lines) == 1:
            names["answer"] = _follow(line.value, names)
        elif not _is_print(line):
            raise InvalidInput("Only lines such as `cost = 3 * 4` are reckoned.")
    if "answer" not in names:
        raise InvalidInput("No line gives `answer` a value.")
    return names["answer"]


def _follow(node: ast.expr, names: Mapping[str, Fraction]) -> Fraction:
    try:
        return _small(_reckoned(node, names))
    except (ZeroDivisionError, RecursionError):
        raise InvalidInput("This divides by zero or has too many brackets.") from None


def _reckoned(node: ast.expr, names: Mapping[str, Fraction]) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and abs(number) < 1e300:
            return Fraction(str(number)) if isinstance(number, float) else Fraction(number)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            found = _reckoned(operand, names)
            return -found if isinstance(sign, ast.USub) else found
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            return _small(OPERATIONS[type(op)](_reckoned(left, names), _reckoned(right, names)))
    raise InvalidInput(f"`{ast.unparse(node)[:40]}` is no number, known name or sum.")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > MOST_POWER:
        raise InvalidInput(f"Powers are whole numbers up to {MOST_POWER} here.")
    return Fraction(base ** int(exponent))


def _small(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MOST_BITS:
        raise InvalidInput(f"A number of the sum needs more than {MOST_BITS} bits.")
    return number


def _is_print(line: ast.stmt) -> bool:
    called = line.value.func if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "print"
