"""Which number an answer gives, and what several answers give together."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest

from helpers.errors import InvalidInput
from helpers.reasoning.answers import majority, pass_at_k, read_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("14", 14),
        ("It costs 1,250 euros.", 1250),
        ("2 pens cost 6. 20 - 6 = 14.\nAnswer: 14 euros", 14),
        ("First 3 + 5 = 8.\n**Answer:** 8 * 2 = 16", 16),
        ("The answer is 7.50.", Fraction(15, 2)),
        ("Answer: 3\nNo, wait.\nAnswer: -4", -4),
        (r"so \boxed{42} it is", 42),
        ("$12", 12),
        ("14, and again 14", 14),
    ],
)
def test_a_number_that_is_given_is_read(text: str, number: Fraction) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize("text", ["", "many", "3 + 5 = 8, then 8 - 2", "Answer: 3 or 4", "Answer:", "room A12"])
def test_in_doubt_nothing_is_read(text: str) -> None:
    assert read_number(text) is None


def test_the_majority_wins_and_the_earliest_of_equals() -> None:
    one, two = Fraction(1), Fraction(2)
    assert majority([two, one, None, one]) == one
    assert majority([two, one, None, one, two]) == two
    assert majority([None, None]) is majority([]) is None


def test_pass_at_k_is_the_mean_over_all_draws() -> None:
    outcomes = [True] * 3 + [False] * 5
    draws = list(combinations(outcomes, 4))
    assert pass_at_k(8, 3, 4) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))
    assert pass_at_k(5, 0, 5) == 0
    assert pass_at_k(5, 1, 5) == 1


def test_an_impossible_pass_at_k_is_refused() -> None:
    for samples, right, k in ((4, 5, 1), (4, 2, 5), (4, 2, 0)):
        with pytest.raises(InvalidInput):
            pass_at_k(samples, right, k)
