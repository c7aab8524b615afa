"""Solutions of notebook 08, one function an exercise, named as in the notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb
from typing import Any


def most_frequent(votes: Sequence[Any]) -> Any:
    counts = Counter(vote for vote in votes if vote is not None)
    return max(counts, key=counts.__getitem__) if counts else "nobody"


def chance(n: int, c: int, k: int) -> float:
    return 1 - comb(n - c, k) / comb(n, k)
