"""Solutions of notebook 03, one function an exercise, named as in the notebook."""

from __future__ import annotations

from collections.abc import Sequence


def nucleus(probabilities: Sequence[float], p: float) -> list[int]:
    kept: list[int] = []
    reached = 0.0
    for place in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        kept.append(place)
        reached += probabilities[place]
        if reached >= p:
            break
    return sorted(kept)


def pairs_that_fit(lengths: Sequence[int], context: int, room: int) -> int:
    free, kept = context - room, 0
    for length in reversed(lengths):
        free -= length
        if free < 0:
            break
        kept += 1
    return kept


def distinct(words: Sequence[str], n: int) -> float:
    runs = list(zip(*(words[start:] for start in range(n)), strict=False))
    return len(set(runs)) / len(runs) if runs else 0
