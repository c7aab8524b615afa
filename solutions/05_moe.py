"""Solutions of notebook 05, one function an exercise, named as in the notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil, exp
from typing import Any


def top_two(logits: list[float]) -> list[tuple[int, float]]:
    best = sorted(range(len(logits)), key=lambda n: -logits[n])[:2]
    shares = [exp(logits[n] - logits[best[0]]) for n in best]
    return [(n, share / sum(shares)) for n, share in zip(best, shares, strict=True)]


def dropped(chosen: list[int], experts: int, factor: float) -> list[int]:
    room, seen, out = ceil(factor * len(chosen) / experts), Counter[int](), []
    for place, expert in enumerate(chosen):
        if seen[expert] >= room:
            out.append(place)
        seen[expert] += 1
    return out


def parameters_of(layers: int, hidden: int, ffn: int, experts: int, top: int, other: int) -> tuple[int, int]:
    expert = layers * 3 * hidden * ffn
    shared = other + layers * hidden * experts
    return shared + experts * expert, shared + top * expert


def verdict_on(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    if set(arguments) - set(schema["properties"]):
        return "unknown"
    if set(schema["required"]) - set(arguments):
        return "missing"
    return "fine"
