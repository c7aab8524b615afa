"""Solutions of notebook 02, one function an exercise, named as in the notebook."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise


def join_most_frequent(tokens: list[str]) -> list[str]:
    pairs = Counter(pairwise(tokens))
    if not pairs:
        return tokens
    best = pairs.most_common(1)[0][0]  # of equals the one that was met first
    joined, place = [], 0
    while place < len(tokens):
        width = 2 if tuple(tokens[place : place + 2]) == best else 1
        joined.append("".join(tokens[place : place + width]))
        place += width
    return joined


def adapter_parameters(rank: int, layers: int, shapes: list[tuple[int, int]]) -> int:
    return layers * rank * sum(rows + columns for rows, columns in shapes)


def grouped(weights: list[float], bits: int, size: int) -> list[float]:
    back: list[float] = []
    for first in range(0, len(weights), size):
        group = weights[first : first + size]
        scale = max(map(abs, group)) / (2 ** (bits - 1) - 1)
        back += [round(weight / scale) * scale for weight in group] if scale else group
    return back
