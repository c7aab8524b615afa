"""A share and how far to trust it.

Twelve right answers of twenty are not 60 %: another twenty questions would give another share. The interval says
which true shares would not be surprised by what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from helpers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of successes with its 95 % interval (Wilson 1927, JASA 22:209-212).

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
        """The shares that a 95 % test would not reject."""
        return wilson(self.successes, self.trials)

    def __str__(self) -> str:
        low, high = self.interval
        share = f"{self.successes} of {self.trials} = {100 * self.share:.0f} %"
        return f"{share} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share; unlike share ± error it stays within 0 and 1 (Wilson 1927, JASA 22)."""
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    # Rounding must not move an end past the share itself, or past 0 and 1.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def rates(rows: pd.DataFrame, outcome: str, by: str) -> pd.DataFrame:
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
