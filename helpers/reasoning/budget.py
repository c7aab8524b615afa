"""What right answers cost: each way of asking as one point of seconds and share, and the frontier of the best of them.

    points = way_points(stored_attempts(), speeds())
    frontier(points)

A second can buy a larger model, a longer chain or another vote. Cost is the seconds that one problem keeps this machine
busy, its requests in a batch where there are several.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import pandas as pd
from matplotlib.axes import Axes

from helpers import plots
from helpers.catalog import card
from helpers.data import stored
from helpers.errors import InvalidInput
from helpers.intervals import Mean, Rate
from helpers.reasoning.answers import majority
from helpers.reasoning.problems import SUMS_SEED, word_sums

#: Random choices of k answers out of those stored, for each problem.
DRAWS = 200
#: How many answers of a problem are put to the vote.
VOTE_COUNTS = (1, 3, 5, 9)
#: The ladder, smallest first.
ASKED_MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")


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


def stored_attempts() -> pd.DataFrame:
    """Every stored answer with its problem, the smallest model first: `model`, `way`, `sample`, `right`, `cut` …

    Sample 0 is greedy, the others were drawn. `expected` is the problem's answer, `number` the one that was given, both
    as text; None where none was given. `python -m benchmarks.reasoning` makes them.
    """
    rows = pd.DataFrame(sorted(stored("reasoning_08")["rows"], key=lambda row: _rank(row["model"])))
    about = [
        {
            "seed": seed,
            "problem": number,
            "steps": one.steps,
            "template": one.template,
            "question": one.question,
            "expected": str(one.answer),
        }
        for seed in rows["seed"].unique()
        for number, one in enumerate(word_sums("test", seed=int(seed)))
    ]
    return rows.merge(pd.DataFrame(about), on=["seed", "problem"], validate="many_to_one")


def speeds() -> dict[tuple[str, str, bool], float]:
    """(model, way, in a batch) → tokens a second, the reading of the prompt included; the median of the stored runs."""
    rows = stored("reasoning_08")["speed"]
    return {(row["model"], row["way"], row["at_once"] > 1): row["tokens_per_second"]["median"] for row in rows}


def vote_share(rows: pd.DataFrame, votes: int, *, seed: int = 0) -> Mean:
    """The share of problems that a majority of `votes` answers gets right, in points of 100.

    Of the answers stored for a problem, `votes` are drawn many times, in another order each time, which is what decides
    between equals: the mean over these is the problem's value, and the interval, Student's, is over problems.
    """
    groups = [group for _, group in rows.groupby("problem")]
    fewest = min(map(len, groups), default=0)
    if not 1 <= votes <= fewest:
        raise InvalidInput(f"{votes} votes cannot be drawn of {fewest} answers a problem.")
    draw = random.Random(seed)

    def won(group: pd.DataFrame) -> float:
        found = [Fraction(number) if isinstance(number, str) else None for number in group["number"]]
        right = Fraction(group["expected"].iloc[0])
        return 100 * sum(majority(draw.sample(found, votes)) == right for _ in range(DRAWS)) / DRAWS

    return Mean.of([won(group) for group in groups])


def way_points(
    rows: pd.DataFrame, rates: Mapping[tuple[str, str, bool], float], *, seed: int = SUMS_SEED
) -> list[WayPoint]:
    """Each model and way, asked once greedily, and its votes where several answers were drawn."""
    found = []
    for (model, way), group in rows[rows["seed"] == seed].groupby(["model", "way"], sort=False):
        greedy, drawn = group[group["sample"] == 0], group[group["sample"] > 0]
        share, tokens = Rate.of(greedy["right"]), greedy["new_tokens"].mean()
        low, high = share.interval
        cost = (tokens, tokens / rates[model, way, False])
        found.append(WayPoint(model, way, 1, 100 * share.share, 100 * low, 100 * high, share.trials, *cost))
        for votes in VOTE_COUNTS[1:] if len(drawn) else ():
            if votes <= drawn.groupby("problem").size().min():
                mean, tokens = vote_share(drawn, votes), votes * drawn["new_tokens"].mean()
                low, high = max(0.0, mean.low), min(100.0, mean.high)
                cost = (tokens, tokens / rates[model, way, True])
                found.append(WayPoint(model, way, votes, mean.value, low, high, mean.items, *cost))
    return found


def frontier(points: Sequence[WayPoint]) -> list[WayPoint]:
    """Those points that no cheaper one equals, cheapest first."""
    best: list[WayPoint] = []
    for point in sorted(points, key=lambda one: (one.seconds, -one.share)):
        if not best or point.share > best[-1].share:
            best.append(point)
    return best


WAY_MARKS = {"at once": "o", "step by step": "s", "program": "^"}


def plot_frontier(points: Sequence[WayPoint], *, ax: Axes | None = None) -> Axes:
    """Right answers against the seconds of one problem: a colour a model, a mark a way, votes beside their point."""
    ax = ax or plots.panels(1, width=9.0, height=4.6)[0]
    names = sorted({point.model for point in points}, key=_rank)
    shades = plots.series_colours(len(names))
    for name, shade, filling in zip(names, shades, plots.parted(shades, plots.FILLINGS), strict=True):
        size = card(name).title
        for way, mark in WAY_MARKS.items():
            own = [point for point in points if (point.model, point.way) == (name, way)]
            arms = [[one.share - one.low for one in own], [one.high - one.share for one in own]]
            ax.errorbar(
                [one.seconds for one in own],
                [one.share for one in own],
                yerr=arms,
                fmt=mark,
                color=shade,
                fillstyle=filling,
                capsize=2,
                elinewidth=0.8,
                label=f"{size}, {way}",
            )
            for one in own:
                if one.votes > 1:
                    ax.annotate(str(one.votes), (one.seconds, one.share), xytext=(5, 3), textcoords="offset points")
    best = frontier(points)
    ax.plot([one.seconds for one in best], [one.share for one in best], color="0.6", zorder=0, label="frontier")
    ax.set(xscale="log", xlabel="seconds a problem (log scale)", ylabel="right, % (95 % interval)", ylim=(-3, 103))
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return ax


def _rank(model: str) -> tuple[int, str]:
    """Where a model stands on the ladder; one that is not on it comes last."""
    return (ASKED_MODELS.index(model) if model in ASKED_MODELS else len(ASKED_MODELS), model)
