"""Votes on stored answers, what each way costs, and the frontier of what share a second buys."""

from __future__ import annotations

import pandas as pd
import pytest

from helpers.errors import InvalidInput
from helpers.reasoning.budget import WayPoint, frontier, plot_frontier, vote_share, way_points

#: The answers of two problems.
EXPECTED = ["1", "2"]


def drawn(*numbers: list[str | None]) -> pd.DataFrame:
    """Samples 1, 2, … of each problem, ten tokens each."""
    found = [
        {"problem": problem, "sample": sample, "number": given}
        for problem, answers in enumerate(numbers)
        for sample, given in enumerate(answers, start=1)
    ]
    table = pd.DataFrame(found).assign(model="smollm2-135m", seed=8, way="step by step", new_tokens=10)
    table["expected"] = [EXPECTED[problem] for problem in table["problem"]]
    return table.assign(right=table["number"] == table["expected"])


def test_votes_help_where_right_answers_agree_and_wrong_ones_do_not() -> None:
    rows = drawn(["1", "1", "3"], ["2", "4", "2"])
    one, three = (vote_share(rows, votes) for votes in (1, 3))
    assert 60 < one.value < 73
    assert three.value == 100


def test_votes_hurt_where_most_answers_are_wrong_alike() -> None:
    assert vote_share(drawn(["1", "3", "3"], ["2", "4", "4"]), 3).value == 0


def test_who_says_nothing_has_no_vote() -> None:
    assert vote_share(drawn(["1", None, None], [None, None, None]), 3).value == 50


def test_more_votes_than_answers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="4 votes"):
        vote_share(drawn(["1", "1", "3"], ["2", "2", "2"]), 4)


def test_votes_cost_their_tokens_at_the_speed_of_a_batch() -> None:
    rows = drawn(["1", "1", "3"], ["2", "4", "2"])
    greedy = rows[rows["sample"] == 1].assign(sample=0)
    rates = {("smollm2-135m", "step by step", in_batch): rate for in_batch, rate in ((False, 5.0), (True, 20.0))}
    once, three = way_points(pd.concat([rows, greedy]), rates)
    assert (once.votes, once.share, once.tokens, once.seconds) == (1, 100, 10, 2)
    assert (three.votes, three.share, three.tokens, three.seconds) == (3, 100, 30, 1.5)


def points() -> list[WayPoint]:
    made = (("at once", 10, 1.0), ("program", 9, 2.0), ("program", 10, 3.0), ("step by step", 50, 4.0))
    return [WayPoint("smollm2-135m", way, 1, share, 0, 100, 60, 10, seconds) for way, share, seconds in made]


def test_the_frontier_keeps_what_no_cheaper_point_equals() -> None:
    assert [point.way for point in frontier(points()[::-1])] == ["at once", "step by step"]


def test_the_plot_has_a_mark_for_each_way_and_the_frontier() -> None:
    ax = plot_frontier(points())
    assert {"frontier", "SmolLM2-135M, step by step"} <= {text.get_text() for text in ax.get_legend().get_texts()}
    assert ax.get_xscale() == "log"
