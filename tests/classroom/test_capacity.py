from __future__ import annotations

import random

import pytest

from helpers.classroom.capacity import Load, Rates, first_token, inside, most_people
from helpers.errors import InvalidInput

CLASS = Load(people=30, think_seconds=30, prompt_tokens=40, new_tokens=32)
SERVER = Rates(prefill=90, decode=60, slots=4, gain=2)


def simulated(load: Load, rates: Rates, requests: int) -> list[int]:
    """How many others each arriving request met, by playing the same class event by event."""
    draw, there, met = random.Random(0), 0, []
    while len(met) < requests:
        arriving = (load.people - there) / load.think_seconds
        leaving = rates.served(load, there) if there else 0.0
        if draw.random() < arriving / (arriving + leaving):
            met.append(there)
            there += 1
        else:
            there -= 1
    return met


def test_the_formula_says_what_a_played_class_sees() -> None:
    met, told = simulated(CLASS, SERVER, 40_000), inside(CLASS, SERVER, CLASS.people - 1)
    mean = sum(number * share for number, share in enumerate(told))
    assert sum(told) == pytest.approx(1)
    assert sum(met) / len(met) == pytest.approx(mean, rel=0.05)


def test_a_single_person_waits_for_the_prompt_alone() -> None:
    alone = Load(people=1, think_seconds=30, prompt_tokens=45, new_tokens=32)
    assert first_token(alone, SERVER, 95) == pytest.approx(0.5, rel=1e-3)


def test_more_people_wait_longer_and_shorter_thoughts_too() -> None:
    waits = [first_token(Load(people, 30, 40, 32), SERVER, 95) for people in (1, 30, 60, 120)]
    assert waits == sorted(waits)
    assert first_token(Load(60, 15, 40, 32), SERVER, 95) > waits[2]


def test_a_full_server_makes_all_wait_for_what_it_can_do() -> None:
    """In saturation an answer comes after people × the time that each takes, less the thinking."""
    many = Load(people=400, think_seconds=30, prompt_tokens=40, new_tokens=32)
    bound = 400 * SERVER.alone_seconds(many) / SERVER.gain - 30
    assert first_token(many, SERVER, 50) == pytest.approx(bound, rel=0.05)


def test_the_largest_class_is_the_last_that_holds_the_bound() -> None:
    most = most_people(CLASS, SERVER, seconds=2)
    waits = [first_token(Load(people, 30, 40, 32), SERVER, 95) for people in (most, most + 1)]
    assert waits[0] <= 2 < waits[1]


def test_what_is_no_percentile_is_refused() -> None:
    with pytest.raises(InvalidInput, match="percentile"):
        first_token(CLASS, SERVER, 100)
