"""Solutions of notebook 07, one function an exercise, named as in the notebook."""

from __future__ import annotations


def draft(tokens: list[int], seen: int, longest: int) -> list[int]:
    end = tokens[len(tokens) - seen :]
    for start in range(len(tokens) - seen - 1, -1, -1):
        if tokens[start : start + seen] == end:
            return tokens[start + seen : start + seen + longest]
    return []


def speed_up(p: float, drafted: int, cost: float) -> float:
    return sum(p**n for n in range(drafted + 1)) / (1 + cost * drafted)


def longest_conversation(room: int, weights: int, per_token: int, context: int) -> int:
    return max(0, min(context, (room - weights) // per_token))
