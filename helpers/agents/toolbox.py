"""The tools of the course's agent: a calculator, units, the lessons, a text's figures, and translation.

They do what a language model of any size does badly by itself: reckon, convert, look up, count. Each refuses what it
cannot do in a sentence, which is what the model is shown in place of a result.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from helpers.agents.tools import Tool, tool
from helpers.chat import Chat
from helpers.checks import LESSONS
from helpers.errors import InvalidInput
from helpers.instruct.search import Index

#: No number of the calculator may need more bits: without a limit, 9**9**9 would fill the memory.
MOST_BITS = 4096
LARGEST = 1e300
#: A number with commas between its thousands.
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")

Expression = Annotated[str, Field(description="numbers with + - * / ** % and brackets", min_length=1, max_length=80)]
Text = Annotated[str, Field(description="the text itself", min_length=1, max_length=200)]
Query = Annotated[str, Field(description="a few words", min_length=1, max_length=80)]
# fmt: off
Unit = Literal[
    "metres", "kilometres", "centimetres", "millimetres", "miles", "yards", "feet", "inches",
    "kilograms", "grams", "tonnes", "pounds", "ounces", "celsius", "fahrenheit", "kelvin",
    "litres", "millilitres", "gallons", "cups", "seconds", "minutes", "hours", "days", "weeks",
    "km/h", "m/s", "mph", "knots",
]
# fmt: on
Language = Literal["English", "Swedish", "French", "German", "Spanish", "Chinese"]
Lamp = Literal["Luna", "Stella", "Aurora", "Comet", "Vega"]
#: A small shop's price list, in euros.
PRICES: dict[str, float] = {"Luna": 24.5, "Stella": 39, "Aurora": 61.25, "Comet": 18.9, "Vega": 47}

#: Quantity → unit → how many of the quantity's first unit it is. Factors of NIST Special Publication 811, appendix
#: B.8: the international mile and pound, the US gallon and cup.
UNITS: dict[str, dict[str, float]] = {
    "length": {
        **{"metres": 1, "kilometres": 1000, "centimetres": 0.01, "millimetres": 0.001},
        **{"miles": 1609.344, "yards": 0.9144, "feet": 0.3048, "inches": 0.0254},
    },
    "mass": {"kilograms": 1, "grams": 0.001, "tonnes": 1000, "pounds": 0.45359237, "ounces": 0.028349523125},
    "volume": {"litres": 1, "millilitres": 0.001, "gallons": 3.785411784, "cups": 0.2365882365},
    "time": {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800},
    "speed": {"m/s": 1, "km/h": 1 / 3.6, "mph": 0.44704, "knots": 1852 / 3600},
}
#: Temperature scale → (kelvins in a degree, kelvins at its zero).
SCALES = {"celsius": (1.0, 273.15), "fahrenheit": (5 / 9, 459.67 * 5 / 9), "kelvin": (1.0, 0.0)}


def calculator(expression: Expression) -> str:
    """Calculates with numbers: sums, differences, products, quotients, powers, percentages."""
    text = THOUSANDS.sub(lambda number: number[0].replace(",", ""), expression)
    if "," in text:
        raise InvalidInput("A comma only stands between thousands, as in 1,250; a decimal is written with a point.")
    text = re.sub(r"(\d+(?:\.\d+)?)\s*%", r"(\1/100)", text)
    for written, meant in {"^": "**", "×": "*", "·": "*", "÷": "/", "−": "-", " of ": "*"}.items():
        text = text.replace(written, meant)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's remarks on odd code are not for the learner
            return _number(_reckon(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, MemoryError, RecursionError):
        raise InvalidInput("This is no expression of numbers, or one with too many brackets.") from None


def convert_units(value: float, from_unit: Unit, to_unit: Unit) -> str:
    """Converts a measurement to another unit: length, mass, temperature, volume, time, speed."""
    if not abs(value) <= LARGEST:  # nor is "not a number"
        raise InvalidInput(f"The value must be a number between -{LARGEST:g} and {LARGEST:g}.")
    if from_unit in SCALES and to_unit in SCALES:
        (size, zero), (new_size, new_zero) = SCALES[from_unit], SCALES[to_unit]
        kelvins = value * size + zero
        if kelvins < -1e-9:
            raise InvalidInput(f"{value:g} {from_unit} is colder than anything can be.")
        return f"{_number((kelvins - new_zero) / new_size)} {to_unit}"
    for units in UNITS.values():
        if from_unit in units and to_unit in units:
            return f"{_number(value * units[from_unit] / units[to_unit])} {to_unit}"
    raise InvalidInput(f"{from_unit} and {to_unit} do not measure the same thing.")


def search_course(query: Query) -> str:
    """Looks something up in the lessons of this course on language models."""
    paragraphs, index = _lessons()
    place, fit = index.search(query, 1)[0]
    if not fit:  # not a word in common
        raise InvalidInput(f"The lessons say nothing about {query!r}.")
    heading, text = paragraphs[place]
    return f"{text} [{heading}]"


def text_statistics(text: Text) -> str:
    """Counts the words, letters and sentences of a text."""
    words = re.findall(r"\w+(?:['’-]\w+)*", text)
    sentences = len(re.findall(r"[.!?]+(?=\s|$)", text)) or 1
    longest = max(words, key=len, default="")
    letters = sum(character.isalpha() for character in text)
    return f"words: {len(words)}, letters: {letters}, sentences: {sentences}, longest word: {longest}"


def translator(chat: Chat) -> Callable[..., str]:
    """A tool that translates with the model of `chat`: it can do no more than that model can.

    The embedded model hardly translates at all (chrF 8 of 100 into Swedish in the stored ladder), so
    give it a chat with a larger one.
    """

    def translate(text: Text, language: Language) -> str:
        """Translates a text into another language."""
        asked = f"Translate into {language}. Write the translation only.\n\n{text}"
        return chat.another().say(asked, max_new_tokens=80, temperature=0.0).text.strip()

    return translate


def course_tools(translating: Chat) -> list[Tool]:
    """All five tools of the course; `translating` is the chat that translates."""
    return [tool(one) for one in (calculator, convert_units, search_course, text_statistics, translator(translating))]


def price_of(lamp: Lamp) -> str:
    """Looks up what one lamp costs in the shop, in euros."""
    return f"{PRICES[lamp]:g}"


def shop_tools() -> list[Tool]:
    """Two tools of which the second needs what the first finds: the price list, and the calculator."""
    return [tool(one) for one in (price_of, calculator)]


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) * math.log2(max(2.0, abs(base))) > MOST_BITS:  # so that it is not even begun
        raise InvalidInput("The power is too large to write down.")
    return base**exponent


_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul},
    **{ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Pow: _power},
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"sqrt": lambda value: value**0.5, "abs": abs, "round": round}


def _reckon(node: ast.expr) -> Any:
    """The value of an expression; anything but numbers, operators and three functions is refused, never run."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_reckon(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _reckon(inner)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _acted(_OPERATORS[type(op)], _reckon(left), _reckon(right))
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in _FUNCTIONS:
            return _acted(_FUNCTIONS[name], _reckon(inner))
    raise InvalidInput(
        "The calculator knows numbers, + - * / // ** %, brackets, sqrt, abs and round, and nothing else."
    )


def _acted(act: Callable[..., Any], *numbers: Any) -> Any:
    try:
        return _bounded(act(*numbers))
    except ZeroDivisionError:
        raise InvalidInput("Nothing can be divided by zero.") from None
    except OverflowError:
        raise InvalidInput("The result is too large to write down.") from None


def _bounded(value: Any) -> Any:
    """The value if it is a real number that can be written down."""
    if isinstance(value, complex):
        raise InvalidInput("The result is not a real number.")
    if not math.isfinite(value) if isinstance(value, float) else value.bit_length() > MOST_BITS:
        raise InvalidInput("The number is too large to write down.")
    return value


def _number(value: float) -> str:
    """An integer in full, any other number to ten digits."""
    return str(value) if isinstance(_bounded(value), int) else f"{value:.10g}"


@cache
def _lessons() -> tuple[list[tuple[str, str]], Index]:
    """The paragraphs of the lessons under their headings; tables, lists of sources and drawings are left out."""
    found: list[tuple[str, str]] = []
    for path in sorted(LESSONS.glob("[0-9]*.md")):
        heading = path.stem
        for block in re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL).split("\n\n"):
            text = block.strip()
            for line in [line for line in text.splitlines() if line.startswith("#")]:
                heading = line.lstrip("# ")
            prose = " ".join(line for line in text.splitlines() if not line.startswith(("#", "|")))
            if heading != "Sources" and len(prose) > 60 and not prose.startswith("Notebook:"):
                found.append((f"{path.stem}, {heading}", prose))
    return found, Index(f"{heading.partition(', ')[2]} {prose}" for heading, prose in found)
