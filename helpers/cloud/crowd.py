"""Many users of one server: throughput, latency and its percentiles, and what of a second is the model's own.

A request's time has three parts: the way there and back, the wait for a slot, and the model's own time. llama.cpp's
server tells the last one with its answer, and a request that computes nothing shows the first.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.backends.remote import Route, fetch
from helpers.errors import InvalidInput
from helpers.intervals import Spread


@dataclass(frozen=True, slots=True)
class Timing:
    """One answered request: all its seconds, those in which the model read and wrote, and the tokens written."""

    seconds: float
    prefill_seconds: float
    decode_seconds: float
    new_tokens: int

    @property
    def other_seconds(self) -> float:
        """The way there and back, and the wait."""
        return self.seconds - self.prefill_seconds - self.decode_seconds


def ask(route: Route, prompt: str, *, new_tokens: int = 32, reuse_prompt: bool = False) -> Timing:
    """One request to the course's own server for exactly so many tokens.

    `reuse_prompt` takes what the prompt has in common with an earlier one from the cache.
    """
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": new_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": reuse_prompt,
    }
    started = time.perf_counter()
    answer = fetch(route, "/chat/completions", body, seconds=600)
    seconds = time.perf_counter() - started
    own = answer["timings"]
    tokens = answer["usage"]["completion_tokens"]
    return Timing(seconds, own["prompt_ms"] / 1000, own["predicted_ms"] / 1000, tokens)


def round_trip(route: Route, repeats: int = 9) -> Spread:
    """The seconds of a request that computes nothing: the way there and back."""
    fetch(route, "/models")
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        fetch(route, "/models")
        seconds.append(time.perf_counter() - started)
    return Spread.of(seconds)


def crowd(route: Route, at_once: int, *, requests: int | None = None, new_tokens: int = 32) -> dict[str, Any]:
    """One row: what `at_once` users get who share `requests` questions, each taking the next as soon as answered.

    Without `requests` there are as many as users, and at least three: enough for a rate, and too few for a tenth.
    `tokens_per_second` is the server's whole throughput; `latency_p50_seconds` and `latency_p90_seconds` are what one
    user waits for a whole answer, in half and in nine tenths of the requests. Answers have `new_tokens` tokens, a
    quarter more or a quarter less; the beginning that all prompts share is in the cache, as it is in a class.
    """
    if at_once < 1 or new_tokens < 1:
        raise InvalidInput("A crowd is at least one user, and an answer at least one token.")
    count = requests or max(3, at_once)

    def one(n: int) -> Timing:
        tokens = max(1, round(new_tokens * (1, 0.75, 1.25)[n % 3]))
        return ask(route, f"Write a story about house number {n}.", new_tokens=tokens, reuse_prompt=True)

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as users:
        timings = list(users.map(one, range(count)))
    elapsed = time.perf_counter() - started
    seconds = [timing.seconds for timing in timings]
    return {
        "at_once": at_once,
        "requests": count,
        "tokens_per_second": sum(timing.new_tokens for timing in timings) / elapsed,
        "latency_p50_seconds": float(np.percentile(seconds, 50)),
        "latency_p90_seconds": float(np.percentile(seconds, 90)),
        "other_seconds": statistics.median(timing.other_seconds for timing in timings),
    }
