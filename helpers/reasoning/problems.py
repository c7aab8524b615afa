"""Sums in words whose answers are computed, not written down: as many as are wanted, and nobody has seen them.

    problem = word_sums("test", count=60)[0]
    problem.question, problem.answer

A template in data/word_sums.json is a text with blanks and the sum that answers it. Numbers are drawn by a seed until
the sum comes out whole and above zero. The templates of "dev" and of "test" are different ones: what was tried out on
the first is measured on texts of another build, not only with other numbers. So are "train" and "held", small sums of
one step in data/small_sums.json, from which a model is trained.
"""

from __future__ import annotations

import random
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from helpers.data import stored
from helpers.errors import InvalidInput
from helpers.reasoning.programs import value

SumsPart = Literal["dev", "test", "train", "held"]
#: The file in data/ in which a part stands.
FILES = {"dev": "word_sums", "test": "word_sums", "train": "small_sums", "held": "small_sums"}
#: Draws for one problem before its template is called impossible.
MOST_DRAWS = 10_000
#: Which numbers are drawn where nobody says.
SUMS_SEED = 8


@dataclass(frozen=True, slots=True)
class WordSum:
    """One problem: `steps` operations lead to its whole `answer`, as `expression` reckons it."""

    template: str
    steps: int
    question: str
    expression: str
    answer: int


def word_sums(part: SumsPart = "test", *, count: int | None = None, seed: int = SUMS_SEED) -> list[WordSum]:
    """`count` problems, each template in turn and the easiest first; without it three of each template.

    The same seed gives the same problems, and the first of them whatever the count.
    """
    if part not in FILES:
        raise InvalidInput(f"There are no word sums named {part!r}.", f"Parts: {', '.join(FILES)}.")
    source = stored(FILES[part])
    templates = [one for one in source["templates"] if one["part"] == part]
    if count is None:
        count = 3 * len(templates)
    if count < 1:
        raise InvalidInput(f"{count} problems cannot be drawn.", "Ask for at least one.")
    draw = random.Random(f"{part} {seed}")
    found: dict[str, WordSum] = {}
    for number in range(count):
        problem = _drawn(templates[number % len(templates)], source["names"], draw, found)
        found[problem.question] = problem
    return list(found.values())


def _drawn(template: dict[str, Any], names: Sequence[str], draw: random.Random, seen: Container[str]) -> WordSum:
    """One problem of this template that was not seen, with numbers that give a whole answer above zero."""
    who = draw.choice(names)
    for _ in range(MOST_DRAWS):
        numbers = {name: draw.randint(*bounds) for name, bounds in template["numbers"].items()}
        answer = value(template["sum"], numbers)
        question = template["text"].format(who=who, **numbers)
        if answer.denominator == 1 and answer > 0 and question not in seen:
            return WordSum(
                template["name"], template["steps"], question, _filled(template["sum"], numbers), int(answer)
            )
    raise InvalidInput(
        f"The template {template['name']!r} has no further problem with a whole answer.", "Widen its numbers."
    )


def _filled(expression: str, numbers: dict[str, int]) -> str:
    return "".join(str(numbers.get(letter, letter)) for letter in expression)
