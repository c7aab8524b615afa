"""How many people a model server carries: the formula, and thirty people simulated to check it.

People think, ask, and wait for the whole answer before they think again. The server computes at most `slots` requests
at once and the others wait in turn. With exponential think and service times this is the machine repairman model
(Feller, An Introduction to Probability Theory, volume 1, XVII.7), which is solved exactly: see `first_token`.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from helpers.backends.remote import Route, client, events
from helpers.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Load:
    """A class: how many people, how long each thinks between an answer and the next question, and what they ask."""

    people: int
    think_seconds: float
    prompt_tokens: float
    new_tokens: float


@dataclass(frozen=True, slots=True)
class Rates:
    """A server's tokens a second: reading and writing for one request alone, and `gain` times as many for all slots."""

    prefill: float
    decode: float
    slots: int
    gain: float

    def alone_seconds(self, load: Load) -> float:
        """The time of one request that has the server for itself."""
        return load.prompt_tokens / self.prefill + load.new_tokens / self.decode

    def served(self, load: Load, inside: int) -> float:
        """Requests a second that are finished while so many are inside; the gain grows evenly up to the last slot."""
        busy = min(inside, self.slots)
        share = (busy - 1) / (self.slots - 1) if self.slots > 1 else 0.0
        return (1 + (self.gain - 1) * share) / self.alone_seconds(load)


def inside(load: Load, rates: Rates, people: int) -> list[float]:
    """The probability that 0, 1, … `people` requests are inside, in the long run."""
    weights = [0.0]  # logarithms, since products of hundreds of factors leave the range of floats
    for number in range(1, people + 1):
        arriving = (people - number + 1) / load.think_seconds
        weights.append(weights[-1] + math.log(arriving / rates.served(load, number)))
    largest = max(weights)
    shares = [math.exp(weight - largest) for weight in weights]
    return [share / sum(shares) for share in shares]


def first_token(load: Load, rates: Rates, percent: float) -> float:
    """The seconds within which so many percent of the questions have their first token.

    Who asks meets what the others make (the arrival theorem), waits until a slot is free, a sum of exponential times,
    and then for the prompt to be read beside what the other slots do.
    """
    if load.people < 1 or not 0 < percent < 100:
        raise InvalidInput("A class has somebody in it, and a percentile lies between 0 and 100.")
    met = np.array(inside(load, rates, load.people - 1))
    others = np.arange(load.people)
    beside = np.array([min(n + 1, rates.slots) / rates.served(load, n + 1) for n in range(load.people)])
    reading = load.prompt_tokens / rates.prefill * rates.served(load, 1) * beside
    ahead, mean = np.maximum(others - rates.slots + 1, 0), 1 / rates.served(load, rates.slots)

    def within(seconds: float) -> float:
        left = seconds - reading
        waited = np.where(ahead > 0, stats.gamma.cdf(left, np.maximum(ahead, 1), scale=mean), 1.0)
        return float(met @ np.where(left >= 0, waited, 0.0))

    low, high = 0.0, 1.0
    while within(high) < percent / 100:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < percent / 100 else (low, middle)
    return high


def most_people(load: Load, rates: Rates, *, seconds: float, percent: float = 95) -> int:
    """The largest class of which so many percent of the questions have their first token within these seconds."""
    people = 0
    while people < 2000 and first_token(replace(load, people=people + 1), rates, percent) <= seconds:
        people += 1
    return people


@dataclass(frozen=True, slots=True)
class TimedQuestion:
    """One question of a simulated person: its seconds to the first token and to the end, or why it was refused."""

    person: int
    first_seconds: float = math.nan
    seconds: float = math.nan
    status: int = 200


def simulate(routes: Sequence[Route], model: str, load: Load, *, seconds: float, seed: int = 0) -> list[TimedQuestion]:
    """What a class of one person a route saw while it asked for so long; think times are exponential."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(len(routes)) as pool:
        every = pool.map(lambda one: _person(one[0], one[1], model, load, end, seed), enumerate(routes))
        return [asked for some in every for asked in some]


def _person(number: int, route: Route, model: str, load: Load, end: float, seed: int) -> list[TimedQuestion]:
    draw, found = random.Random(f"{seed} {number}"), []
    # Words of one token each; another beginning each time, so that no prompt is read from a cache.
    while time.monotonic() + (pause := draw.expovariate(1 / load.think_seconds)) < end:
        time.sleep(pause)
        words = " ".join(
            draw.choice(("red", "blue", "one", "two", "cat", "dog")) for _ in range(int(load.prompt_tokens))
        )
        found.append(_ask(number, route, model, words, int(load.new_tokens)))
    return found


def _ask(person: int, route: Route, model: str, words: str, new_tokens: int) -> TimedQuestion:
    body = {"model": model, "prompt": words, "max_tokens": new_tokens, "stream": True, "temperature": 0}
    body |= {"ignore_eos": True, "cache_prompt": False}
    headers = {"Authorization": f"Bearer {route.key.reveal() if route.key else ''}"}
    started = time.perf_counter()
    with (
        client(route, timeout=600.0) as http,
        http.stream("POST", f"{route.address}/completions", json=body, headers=headers) as answer,
    ):
        if answer.status_code != 200:
            return TimedQuestion(person, status=answer.status_code)
        first = math.nan
        for data in events(answer.iter_bytes()):
            if math.isnan(first) and '"text"' in data:
                first = time.perf_counter() - started
        return TimedQuestion(person, first, time.perf_counter() - started)
