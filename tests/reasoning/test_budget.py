"""Votes on stored answers, and the frontier of what share a second buys."""

from __future__ import annotations

import pytest

from helpers.errors import InvalidInput
from helpers.reasoning.budget import WayPoint, frontier, vote_share, way_share

ANSWERS = {"a": 1, "b": 2}


def rows(**numbers: list[str | None]) -> list[dict[str, object]]:
    return [
        {"question": question, "number": number, "right": number == str(ANSWERS[question])}
        for question, found in numbers.items()
        for number in found
    ]


def test_the_share_counts_right_answers() -> None:
    assert str(way_share(rows(a=["1"], b=["3"]))).startswith("1 of 2")


def test_votes_help_where_right_answers_agree_and_wrong_ones_do_not() -> None:
    stored = rows(a=["1", "1", "3"], b=["2", "4", "2"])
    one, three = (vote_share(stored, votes, answers=ANSWERS) for votes in (1, 3))
    assert 60 < one.value < 73
    assert three.value == 100


def test_votes_hurt_where_most_answers_are_wrong_alike() -> None:
    assert vote_share(rows(a=["1", "3", "3"], b=["2", "4", "4"]), 3, answers=ANSWERS).value == 0


def test_more_votes_than_answers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="4 votes"):
        vote_share(rows(a=["1", "1", "3"]), 4, answers=ANSWERS)


def test_the_frontier_keeps_what_no_cheaper_point_equals() -> None:
    points = [
        WayPoint("m", way, 1, share, 0, 100, 60, 10, seconds)
        for way, share, seconds in (("cheap", 10, 1.0), ("worse", 9, 2.0), ("equal", 10, 3.0), ("best", 50, 4.0))
    ]
    assert [point.way for point in frontier(points[::-1])] == ["cheap", "best"]
