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
    """What lines such as `cost = 3 * 4` come to: the value of `answer`, or of the last line.

    A fence around the lines is taken off, `print(total)` is read as `total`, comments are passed over. `InvalidInput`
    says what stopped it.
    """
    fenced = FENCE.search(program)
    try:
        lines = ast.parse(fenced[1] if fenced else program.strip()).body
    except (SyntaxError, MemoryError, RecursionError, ValueError):
        raise InvalidInput("This is no Python.") from None
    names: dict[str, Fraction] = {}
    last: Fraction | None = None
    for line in lines:
        if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
            last = names[line.targets[0].id] = _follow(line.value, names)
        elif isinstance(line, ast.Expr) and (told := _printed(line.value)):
            last = _follow(told[-1], names)
        elif not (isinstance(line, ast.Expr) and (_is_text(line.value) or _is_print(line.value))):
            raise InvalidInput("Only lines such as `cost = 3 * 4` are reckoned.")
    if (found := names.get("answer", last)) is None:
        raise InvalidInput("No line gives a value.")
    return found


def _printed(value: ast.expr) -> list[ast.expr]:
    """The numbers that a line tells: what `print` is given besides texts, or the line's own expression."""
    if isinstance(value, ast.Call):
        return [one for one in value.args if not _is_text(one)] if _is_print(value) else []
    return [] if _is_text(value) else [value]


def _is_print(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print"


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and isinstance(value.value, str))


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
