"""What an answer costs: a price for each token elsewhere, electricity and a machine here.

Elsewhere the cost follows the tokens and an idle day is free. Here the machine is paid for whether it works or not,
and electricity follows the seconds. So there is a number of tokens a day at which both cost the same, and a speed below
which a machine never gets there, though it works all day.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from helpers.errors import InvalidInput

SECONDS_PER_DAY = 86_400
DAYS_PER_YEAR = 365.25
#: Prompt tokens for each token of answer, in a chat whose prompts carry some context: an assumption of ours.
PROMPT_PER_ANSWER = 3.0


@dataclass(frozen=True, slots=True)
class Price:
    """What a provider asks for a model: dollars for a million tokens of prompt and of answer, and who says so."""

    provider: str
    model: str
    prompt: float
    answer: float
    basis: str
    source: str
    checked: date

    def cost(self, prompt_tokens: float, new_tokens: float) -> float:
        """Dollars for so many tokens.

        >>> round(price("foundry", "phi-4-mini").cost(1_000_000, 1_000_000), 3)
        0.375
        """
        return (self.prompt * prompt_tokens + self.answer * new_tokens) / 1e6


@dataclass(frozen=True, slots=True)
class OwnMachine:
    """A machine that you own: the power it draws while it answers, and what it cost to buy, spread over its years."""

    name: str
    watts: float
    dollars_per_kwh: float
    purchase_dollars: float = 0.0
    years: float = 4.0

    def energy_cost(self, seconds: float) -> float:
        """Dollars of electricity for so many seconds of work.

        >>> OwnMachine("a lamp", watts=100, dollars_per_kwh=0.30).energy_cost(3600)
        0.03
        """
        return self.watts / 1000 * seconds / 3600 * self.dollars_per_kwh

    @property
    def dollars_per_day(self) -> float:
        """What a day costs before the first token."""
        return self.purchase_dollars / (self.years * DAYS_PER_YEAR)


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("prices.toml").read_text(encoding="utf-8"))


def prices() -> list[Price]:
    """Every price of the table."""
    return [Price(**row) for row in _data()["prices"]]


def price(provider: str, model: str) -> Price:
    """One price of the table."""
    found = next((p for p in prices() if (p.provider, p.model) == (provider, model)), None)
    if found is None:
        known = ", ".join(f"{p.model} at {p.provider}" for p in prices())
        raise InvalidInput(f"The table has no price of {model!r} at {provider!r}.", f"It has: {known}.")
    return found


def example_machines() -> list[OwnMachine]:
    """The machines of the table, examples to be replaced by yours."""
    rows = _data()["machines"]
    return [OwnMachine(**{name: value for name, value in row.items() if name != "basis"}) for row in rows]


def day_costs(
    tokens_per_day: Sequence[float],
    own: Sequence[tuple[OwnMachine, float]],
    hosted: Sequence[Price],
    *,
    prompt_per_answer: float = PROMPT_PER_ANSWER,
) -> list[dict[str, Any]]:
    """One row for each number of answer tokens a day and each place: `where`, `tokens_per_day`, `dollars_per_day`.

    `own` are machines, each with the answer tokens that it writes a second, reading `prompt_per_answer` prompt tokens
    for each of them included. A machine has a last row at what fits into its day, and none beyond.
    """
    rows: list[dict[str, Any]] = []

    def add(where: str, tokens: float, dollars: float) -> None:
        rows.append({"where": where, "tokens_per_day": tokens, "dollars_per_day": dollars})

    for machine, speed in own:
        most = speed * SECONDS_PER_DAY
        for tokens in [*(tokens for tokens in tokens_per_day if tokens < most), most]:
            add(machine.name, tokens, machine.dollars_per_day + machine.energy_cost(tokens / speed))
    for p in hosted:
        for tokens in tokens_per_day:
            add(f"{p.model}, {p.provider}", tokens, p.cost(prompt_per_answer * tokens, tokens))
    return rows


def break_even(
    machine: OwnMachine, hosted: Price, *, tokens_per_second: float, prompt_per_answer: float = PROMPT_PER_ANSWER
) -> float | None:
    """The answer tokens a day from which the own machine is cheaper; None if it never is within a day's work.

    Equal cost: day + energy × tokens = price × tokens.
    """
    saved_per_token = hosted.cost(prompt_per_answer, 1) - machine.energy_cost(1 / tokens_per_second)
    if saved_per_token <= 0:
        return None
    tokens = machine.dollars_per_day / saved_per_token
    return tokens if tokens <= tokens_per_second * SECONDS_PER_DAY else None


def least_speed(machine: OwnMachine, hosted: Price, *, prompt_per_answer: float = PROMPT_PER_ANSWER) -> float:
    """The answer tokens a second, reading included, at which a machine busy all day costs as much as `hosted`.

    A slower one is never cheaper, however much it is used. From: day + energy of a day = price × tokens of a day.

    >>> laptop, _ = example_machines()
    >>> round(least_speed(laptop, price("foundry", "phi-4-mini")), 1)
    22.2
    """
    whole_day = machine.dollars_per_day + machine.energy_cost(SECONDS_PER_DAY)
    return whole_day / (SECONDS_PER_DAY * hosted.cost(prompt_per_answer, 1))
