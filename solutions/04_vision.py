"""Solutions of notebook 04, one function an exercise, named as in the notebook."""

from __future__ import annotations


def phi_tokens(rows: int, columns: int) -> int:
    return (rows * columns + 1) * 144 + (rows + 1) * 12 + 1


def join_patches(patches: list[list[list[float]]]) -> list[list[list[float]]]:
    return [
        [
            patches[row][column] + patches[row][column + 1] + patches[row + 1][column] + patches[row + 1][column + 1]
            for column in range(0, len(patches[0]), 2)
        ]
        for row in range(0, len(patches), 2)
    ]


def slow_cuts(shares: list[list[float]], threshold: float) -> list[int]:
    cuts: list[int] = []
    reference = shares[0] if shares else []
    for frame, now in enumerate(shares):
        if sum(abs(a - b) for a, b in zip(now, reference, strict=True)) / 2 > threshold:
            cuts.append(frame)
            reference = now
    return cuts


def error_rate_of(read: str, truth: str) -> float:
    row = list(range(len(truth) + 1))
    for place, letter in enumerate(read, start=1):
        above, row = row, [place]
        for column, other in enumerate(truth, start=1):
            row.append(min(row[-1] + 1, above[column] + 1, above[column - 1] + (letter != other)))
    return row[-1] / len(truth)
