"""Solutions of notebook 01, one function an exercise, named as in the notebook."""

from __future__ import annotations


def tokens_that_fit(memory: int, weight_bytes: int, bytes_per_token: int) -> int:
    return max(0, (memory - weight_bytes) // bytes_per_token)


def users_until_arithmetic(read_bytes: int, bandwidth: int, flops: int, peak: int) -> int:
    # Reading takes read_bytes / bandwidth, arithmetic users × flops / peak; -(-a // b) rounds up.
    return max(1, -(-read_bytes * peak // (bandwidth * flops)))


def lower_end(right: int, questions: int) -> float:
    seen, spread = right / questions, 1.96**2 / questions
    centre = seen + spread / 2
    root = (spread * seen * (1 - seen) + spread**2 / 4) ** 0.5
    return (centre - root) / (1 + spread)
