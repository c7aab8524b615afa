"""Solutions to the exercises of notebook 00."""

from __future__ import annotations

import math


def seconds(first: float, tokens: int, rate: float | None) -> float:
    """How long the answer took in all, in seconds."""
    return first if rate is None else first + (tokens - 1) / rate


def tokens_for(words: int) -> int:
    """How many tokens an answer of so many words takes."""
    return math.ceil(4 * words / 3)
