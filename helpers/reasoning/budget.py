"""What right answers cost: each way of asking as one point of seconds and share, and the frontier of the best of them.

A second can buy a larger model, a longer chain or another vote. Cost is the seconds that one problem keeps this machine
busy, its requests in a batch where there are several.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from helpers.errors import InvalidInput
from helpers.intervals import Mean, Rate
from helpers.reasoning.answers import majority

#: Random choices of k answers out of those stored, for each problem.
DRAWS = 200


@dataclass(frozen=True, slots=True)
class WayPoint:
    """One way of asking one model: its share of right answers in points of 100 with interval, and its cost."""

    model: str
    way: str
    votes: int
    share: float
    low: float
    high: float
    items: int
    tokens: float
    seconds: float


def way_share(rows: Iterable[Mapping[str, Any]]) -> Rate:
    """The share of right answers, one answer a problem."""
    return Rate.of(row["right"] for row in rows)


def vote_share(rows: Iterable[Mapping[str, Any]], votes: int, *, answers: Mapping[str, int], seed: int = 0) -> Mean:
    """The share of problems that a majority of `votes` answers gets right, in points of 100.

    Of the answers stored for a problem, `votes` are drawn many times: the mean over these is the problem's value, and
    the interval, Student's, is over problems.
    """
    by_question: dict[str, list[Fraction | None]] = {}
    for row in rows:
        number = None if row["number"] is None else Fraction(row["number"])
        by_question.setdefault(row["question"], []).append(number)
    fewest = min((len(found) for found in by_question.values()), default=0)
    if not 1 <= votes <= fewest:
        raise InvalidInput(f"{votes} votes cannot be drawn of {fewest} answers a problem.")
    draw = random.Random(seed)

    def won(found: Sequence[Fraction | None], answer: int) -> float:
        draws = 1 if votes == len(found) else DRAWS
        return 100 * sum(majority(draw.sample(found, votes)) == answer for _ in range(draws)) / draws

    return Mean.of([won(found, answers[question]) for question, found in by_question.items()])


def frontier(points: Sequence[WayPoint]) -> list[WayPoint]:
    """Those points that no cheaper one equals, cheapest first."""
    best: list[WayPoint] = []
    for point in sorted(points, key=lambda one: (one.seconds, -one.share)):
        if not best or point.share > best[-1].share:
            best.append(point)
    return best
