"""Solutions of notebook 06, one function an exercise, named as in the notebook."""

from __future__ import annotations

import json


def wait_before_retry(attempt: int, retry_after: float | None, left: float) -> float:
    wait = 0.5 * 2 ** (attempt - 1) if retry_after is None else retry_after
    return wait if wait <= left else float("inf")


def text_of(lines: list[str]) -> str:
    pieces = []
    for line in lines:
        if line == "data: [DONE]":
            break
        if line.startswith("data: "):
            delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
            pieces.append(delta.get("content") or "")
    return "".join(pieces)


def tokens_to_break_even(day: float, energy: float, price: float) -> float:
    return day / (price - energy) if price > energy else float("inf")


def last_answer(users: int, slots: int, seconds: float) -> float:
    return -(-users // slots) * seconds  # -(-a // b) rounds up
