"""A function becomes a tool, a wrong call becomes a sentence, and the course's tools are right."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from helpers.agents import toolbox
from helpers.agents.tools import tool, tools
from helpers.errors import InvalidInput
from helpers.records import Turn
from talk import scripted


def order(
    dish: Annotated[str, Field(description="what to eat", min_length=2, max_length=20)],
    plates: Annotated[int, Field(ge=1, le=9)] = 1,
    price: float = 2.5,
    hot: bool = True,
    size: Literal["small", "large"] = "small",
    extras: Annotated[list[str], Field(max_length=2)] = [],  # noqa: B006 - a list is among the defaults to be read
) -> str:
    """Orders a dish.

    Nothing of this paragraph is for the model.
    """
    return f"{plates} {size} {dish} at {price}, {hot}, {extras}"


ORDER = tool(order)


def deep(levels: int) -> list[Any]:
    """A list in a list in a list …"""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def test_name_and_description_come_from_the_function():
    assert (ORDER.name, ORDER.description) == ("order", "Orders a dish.")
    assert str(ORDER) == "order(dish, plates, price, hot, size, extras): Orders a dish."


def test_the_schema_says_types_ranges_choices_and_what_is_required():
    assert ORDER.schema["required"] == ["dish"]
    assert ORDER.schema["additionalProperties"] is False
    assert ORDER.schema["properties"] == {
        "dish": {"type": "string", "minLength": 2, "maxLength": 20, "description": "what to eat"},
        "plates": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
        "price": {"type": "number", "default": 2.5},
        "hot": {"type": "boolean", "default": True},
        "size": {"type": "string", "enum": ["small", "large"], "default": "small"},
        "extras": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "default": []},
    }


def test_the_schema_keeps_the_functions_order():
    assert list(ORDER.schema["properties"]) == ["dish", "plates", "price", "hot", "size", "extras"]


def test_a_valid_call_gets_its_defaults():
    assert ORDER({"dish": "soup", "plates": 2}) == "2 small soup at 2.5, True, []"


@pytest.mark.fault("what a model may write")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "order needs the argument 'dish'"),
        ({"dish": "soup", "colour": "red"}, "has no argument 'colour'; it takes dish, plates"),
        ({"dish": 3}, "dish must be a valid string, not 3"),
        ({"dish": "a"}, "dish must have at least 2 characters, not 'a'"),
        ({"dish": "soup", "plates": 10}, "plates must be less than or equal to 9, not 10"),
        ({"dish": "soup", "plates": True}, "plates must be a valid integer, not True"),
        ({"dish": "soup", "plates": 1.5}, "plates must be a valid integer, not 1.5"),
        ({"dish": "soup", "price": math.nan}, "price must be a finite number, not nan"),
        ({"dish": "soup", "price": math.inf}, "price must be a finite number, not inf"),
        ({"dish": "soup", "price": 10**400}, "price must be a finite number, not 1000"),
        ({"dish": "soup", "plates": 10**400}, "plates must be less than or equal to 9, not 1000"),
        ({"dish": "soup", "price": "2"}, "price must be a valid number, not '2'"),
        ({"dish": "soup", "hot": 1}, "hot must be a valid boolean, not 1"),
        ({"dish": "soup", "size": "huge"}, "size must be 'small' or 'large', not 'huge'"),
        ({"dish": "soup", "extras": "salt"}, "extras must be a valid array, not 'salt'"),
        ({"dish": "soup", "extras": [1]}, "extras.0 must be a valid string, not 1"),
        ({"dish": "soup", "extras": ["a", "b", "c"]}, "extras must have at most 2 items, not 3"),
        ({"dish": "soup", "extras": deep(5000)}, "nothing that JSON can hold"),
        ({"dish": {1}}, "nothing that JSON can hold"),
        ("soup", "must be a JSON object, not 'soup'"),
    ],
)
def test_a_wrong_call_is_refused_in_a_sentence(arguments, sentence):
    with pytest.raises(InvalidInput, match=sentence.replace("(", r"\(")):
        ORDER(arguments)


def test_json_writes_an_integer_as_it_likes():
    assert ORDER.validate({"dish": "soup", "plates": 3.0, "price": 2}) | {"extras": 0} == {
        **{"dish": "soup", "plates": 3, "price": 2.0, "hot": True, "size": "small", "extras": 0}
    }


def no_hint(x) -> str:
    """Says something."""


def no_docstring(x: int) -> int:
    return x


def odd_type(x: type) -> None:
    """Takes a class."""


def any_number(*x: int) -> None:
    """Takes many."""


def unreadable(x: Nowhere) -> None:  # noqa: F821
    """Takes what is not there."""


def wrong_default(x: int = "one") -> None:
    """Has a default of another type."""


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (no_hint, "'x' of no_hint has no type hint"),
        (no_docstring, "no docstring"),
        (odd_type, "none that JSON can show"),
        (any_number, "by name"),
        (unreadable, "none that JSON can show"),
        (wrong_default, "x must be a valid integer, not 'one'"),
        (lambda x: x, "a lambda has none"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_in_a_sentence(function, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        tool(function)


def test_an_argument_may_be_called_as_a_method_of_the_model_is():
    def odd(json: int, copy: int = 2, model_config: int = 3) -> int:
        """Adds."""
        return json + copy + model_config

    assert tool(odd)({"json": 1}) == 6


@pytest.mark.parametrize("error", [OverflowError("too large"), SystemExit(1), RecursionError("deep")])
def test_whatever_a_tool_raises_is_its_outcome(error):
    def fails() -> None:
        """Fails."""
        raise error

    assert tool(fails).outcome({}) == (f"The tool fails failed: {type(error).__name__}, {error}.", True)


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(InvalidInput, match="Two tools are called 'order'"):
        tools([order, ORDER])


# The course's own


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("17 * 23", "391"),
        ("2^10", "1024"),
        ("15% of 80", "12"),
        ("200 / 10%", "2000"),
        ("1,250 ÷ 5", "250"),
        ("1,250,000.5 + 0.5", "1250001"),
        ("10**300 / 10**299", "10"),
        ("-(3 − 5) × 4", "8"),
        ("7 // 2", "3"),
        ("sqrt(2)", "1.414213562"),
        ("0.1 + 0.2", "0.3"),
    ],
)
def test_the_calculator_reckons(expression, result):
    assert toolbox.calculator(expression) == result


@pytest.mark.fault("what a model may write")
@pytest.mark.parametrize(
    "expression",
    [
        *("9**9**9", "9**9**9.5", "9**-9**9", "2**5000", "1e308 * 1e308", "1/0", "(-8)**0.5", "sqrt(-1)"),
        *("round(1e308*10)", "1e999", "-1e999", "nan", "inf", "10**400 + 0.5", "sqrt(10**400)", "1" * 5000),
        *("1,5 + 1", "1.234,5", "12,34", "1,2345", "1,,250", "max(1, 2)", "2" + "+2" * 9000, "-" * 9000 + "1"),
        *("__import__('os').getcwd()", "().__class__", "x", "True + 1", "'a' * 9", "3 apples", "", "(", "[1][0]"),
        *("1 if 1 else 2", "lambda: 1", "abs(1, 2)", "\0", "1j", "(" * 999 + "1" + ")" * 999),
    ],
    ids=lambda expression: expression[:20],
)
def test_the_calculator_refuses_what_is_no_small_sum_in_a_sentence(expression):
    with pytest.raises(InvalidInput, match=r"\.$"):
        toolbox.calculator(expression)


@pytest.mark.parametrize(
    ("value", "old", "new", "result"),
    [
        (5, "miles", "kilometres", "8.04672 kilometres"),
        (100, "celsius", "fahrenheit", "212 fahrenheit"),
        (-40, "fahrenheit", "celsius", "-40 celsius"),
        (0, "kelvin", "celsius", "-273.15 celsius"),
        (90, "km/h", "m/s", "25 m/s"),
        (2, "weeks", "hours", "336 hours"),
        (1, "gallons", "cups", "16 cups"),
        (16, "ounces", "pounds", "1 pounds"),
    ],
)
def test_units_convert(value, old, new, result):
    assert toolbox.convert_units(value, old, new) == result


@pytest.mark.fault("what a model may write")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, 1e301])
def test_a_measurement_without_end_is_refused(value):
    with pytest.raises(InvalidInput, match=r"too large|a number between"):
        toolbox.convert_units(value, "miles", "millimetres")


@pytest.mark.parametrize(("old", "new"), [("miles", "pounds"), ("celsius", "metres")])
def test_units_of_two_quantities_do_not_convert(old, new):
    with pytest.raises(InvalidInput, match="do not measure the same"):
        toolbox.convert_units(1, old, new)


def test_nothing_is_colder_than_absolute_zero():
    with pytest.raises(InvalidInput, match="colder"):
        toolbox.convert_units(-300, "celsius", "kelvin")


def test_every_unit_of_the_hint_can_be_converted():
    known = {unit for units in toolbox.UNITS.values() for unit in units} | set(toolbox.SCALES)
    assert set(tool(toolbox.convert_units).schema["properties"]["from_unit"]["enum"]) == known


@pytest.mark.parametrize(
    ("query", "lesson"), [("distillation", "02_"), ("chat template", "03_"), ("continuous batching", "06_")]
)
def test_the_course_is_searched_and_named(query, lesson):
    assert f"[{lesson}" in toolbox.search_course(query)


def test_what_the_lessons_do_not_say_is_said():
    with pytest.raises(InvalidInput, match="say nothing about 'xylophone zebra'"):
        toolbox.search_course("xylophone zebra")


def test_a_text_is_counted():
    found = toolbox.text_statistics("Nobody's here. We don't sleep!")
    assert found == "words: 5, letters: 22, sentences: 2, longest word: Nobody's"


def test_the_translator_leaves_the_chat_as_it_was():
    chat = scripted("Bonjour", history=[Turn("user", "Hi"), Turn("assistant", "Hello")])
    assert toolbox.translator(chat)("Good morning", "French") == "Bonjour"
    assert [turn.text for turn in chat.history] == ["Hi", "Hello"]
