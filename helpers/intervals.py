"""How far to trust a number: a share, a mean, a median of repeats, each with the range that goes with it.

Twelve right answers of twenty are not 60 %: another twenty questions would give another share. An interval says which
true values would not be surprised by what was seen. Two intervals that overlap prove nothing either way: to compare two
ways on the same items, look at the differences item by item, `Mean.of_differences`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of successes with its 95 % interval, Wilson's (1927, JASA 22:209-212).

    >>> print(Rate(57, 100))
    57 of 100 = 57 % (95 % interval 47 to 66 %)
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InvalidInput("A share of no trials has no value.", "Give at least one result.")
        if not 0 <= self.successes <= self.trials:
            raise InvalidInput(f"{self.successes} successes do not fit into {self.trials} trials.")

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Rate:
        """The rate of true values among `outcomes`."""
        results = [bool(outcome) for outcome in outcomes]
        return cls(sum(results), len(results))

    @property
    def share(self) -> float:
        """Successes ÷ trials."""
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """The shares that a 95 % test would not reject; unlike share ± error they stay within 0 and 1."""
        from scipy.stats import binomtest

        found = binomtest(self.successes, self.trials).proportion_ci(CONFIDENCE, method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        share = f"{self.successes} of {self.trials} = {100 * self.share:.0f} %"
        return f"{share} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over items with its 95 % interval by Student's t (1908, Biometrika 6:1-25); unknown (nan) for one item.

    >>> print(Mean.of([10, 20, 30, 40]))
    25.0 (95 % interval 4.5 to 45.5, 4 items)
    """

    value: float
    low: float
    high: float
    items: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """The mean of at least one value."""
        numbers = [float(value) for value in values]
        if not numbers:
            raise InvalidInput("A mean of no values does not exist.", "Give at least one.")
        middle = statistics.fmean(numbers)
        if len(numbers) == 1:  # one item says nothing of how far another would lie
            return cls(middle, math.nan, math.nan, 1)
        from scipy.stats import t

        arm = float(t.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1)) * statistics.stdev(numbers) / math.sqrt(len(numbers))
        return cls(middle, middle - arm, middle + arm, len(numbers))

    @classmethod
    def of_differences(cls, ones: Sequence[float], others: Sequence[float]) -> Mean:
        """The mean of `ones` − `others`, item by item: what one way gains over another on the same items."""
        return cls.of([float(one) - float(other) for one, other in zip(ones, others, strict=True)])

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:.1f} (one item: its interval is unknown)"
        return f"{self.value:.1f} (95 % interval {self.low:.1f} to {self.high:.1f}, {self.items} items)"


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the lowest and the highest of its repeats: what was seen, not what another run may show."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if not values:
            raise InvalidInput("A spread needs at least one value.")
        return cls(statistics.median(values), min(values), max(values), len(values))

    def times(self, factor: float) -> Spread:
        """The same spread in another unit, or as a ratio to something."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.repeats)

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g}, {self.repeats} repeats)"


def rate_table(rows: pd.DataFrame, outcome: str, by: str) -> pd.DataFrame:
    """One row a group: `share` of rows whose `outcome` is true, its `low` and `high`, and the `trials`, best first."""
    import pandas as pd

    table = []
    for group, part in rows.groupby(by, sort=False):
        rate = Rate.of(part[outcome])
        low, high = rate.interval
        table.append({by: group, "share": rate.share, "low": low, "high": high, "trials": rate.trials})
    if not table:
        raise InvalidInput("There are no rows to count.", "Give a table with at least one row.")
    return pd.DataFrame(table).sort_values("share", ascending=False, kind="stable", ignore_index=True)
