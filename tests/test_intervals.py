"""Intervals that cover: their published values, their coverage on drawn samples, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from helpers.errors import InvalidInput
from helpers.intervals import Mean, Rate, Spread, rate_table


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_interval_has_the_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert Rate(successes, trials).interval == pytest.approx((low, high), abs=1e-4)


def test_an_interval_contains_the_share_whatever_the_rounding() -> None:
    for trials in (1, 7, 59):
        for successes in range(trials + 1):
            low, high = Rate(successes, trials).interval
            assert 0 <= low <= successes / trials + 1e-12
            assert successes / trials - 1e-12 <= high <= 1


@pytest.mark.parametrize("items", [2, 6, 12])
def test_a_means_interval_covers_what_it_promises(items: int) -> None:
    """Of 2,000 samples of a known mean, about 95 % have it in their interval: t's definition."""
    draws = np.random.default_rng(0).normal(50, 20, (2000, items))
    covered = [mean.low <= 50 <= mean.high for mean in map(Mean.of, draws.tolist())]
    assert 0.935 < sum(covered) / len(covered) < 0.965


def test_rates_count_each_group_and_put_the_best_first():
    rows = pd.DataFrame({"field": ["a", "b", "a", "b"], "correct": [True, True, False, True]})
    table = rate_table(rows, "correct", "field")
    assert list(zip(table["field"], table["share"], table["trials"], strict=True)) == [("b", 1.0, 2), ("a", 0.5, 2)]
    assert (table["low"] <= table["share"]).all()


@pytest.mark.parametrize("arguments", [(0, 0), (3, 2), (-1, 4)])
def test_an_impossible_rate_is_refused(arguments):
    with pytest.raises(InvalidInput, match=r"no trials|do not fit"):
        Rate(*arguments)


def test_a_rate_reads_as_a_sentence():
    assert str(Rate.of([True] * 57 + [False] * 43)) == "57 of 100 = 57 % (95 % interval 47 to 66 %)"


def test_no_rows_are_refused():
    with pytest.raises(InvalidInput, match="no rows"):
        rate_table(pd.DataFrame({"field": [], "correct": []}), "correct", "field")


def test_a_mean_lies_in_its_interval_and_reads_as_a_sentence() -> None:
    assert str(Mean.of([10, 20, 30, 40])) == "25.0 (95 % interval 4.5 to 45.5, 4 items)"
    assert Mean.of([7.0, 7.0]) == Mean(7.0, 7.0, 7.0, 2)
    with pytest.raises(InvalidInput, match="no values"):
        Mean.of([])


def test_one_item_says_nothing_of_its_interval() -> None:
    alone = Mean.of([7.0])
    assert math.isnan(alone.low)
    assert "unknown" in str(alone)


def test_differences_are_taken_item_by_item() -> None:
    gain = Mean.of_differences([30, 50, 70], [20, 40, 60])
    assert (gain.value, gain.low, gain.high) == (10, 10, 10)  # whatever the items are, each gains ten
    with pytest.raises(ValueError, match="shorter"):
        Mean.of_differences([1, 2], [1])


def test_a_spread_is_what_was_seen() -> None:
    assert str(Spread.of([3.0, 1.0, 2.0]).times(2)) == "4 (2 to 6, 3 repeats)"
