"""The price table, and the arithmetic of the break-even."""

from __future__ import annotations

from datetime import date

import pytest

from helpers import catalog
from helpers.cloud import costs
from helpers.cloud.costs import OwnMachine, Price, break_even, day_costs, price, prices
from helpers.errors import InvalidInput

DEAR = Price("x", "y", prompt=10.0, answer=40.0, basis="example", source="", checked=date(2026, 1, 1))
OLD = OwnMachine("old", watts=100, dollars_per_kwh=0.36, purchase_dollars=1461, years=4)  # a dollar a day


def test_every_price_has_a_date_a_source_and_a_model_of_the_catalog() -> None:
    for row in prices():
        assert "https://" in row.source
        assert row.checked >= date(2026, 11, 1)
        assert row.basis in {"published", "last", "example"}
        assert 0 < row.prompt <= row.answer
        assert catalog.card(row.model)


def test_an_unknown_price_lists_the_known() -> None:
    with pytest.raises(InvalidInput, match="phi-4-mini at foundry"):
        price("foundry", "gpt-4")


def test_a_machine_costs_its_purchase_spread_over_its_days() -> None:
    assert OLD.dollars_per_day == pytest.approx(1.0)


def test_at_the_break_even_both_cost_the_same() -> None:
    tokens = break_even(OLD, DEAR, tokens_per_second=50)
    own, _, hosted = day_costs([tokens], [(OLD, 50)], [DEAR])
    assert own["dollars_per_day"] == pytest.approx(hosted["dollars_per_day"])


def test_a_slow_machine_never_pays() -> None:
    assert break_even(OLD, DEAR, tokens_per_second=0.1) is None


def test_a_machine_whose_power_costs_more_than_the_price_never_pays() -> None:
    hungry = OwnMachine("hungry", watts=1e6, dollars_per_kwh=1.0)
    assert break_even(hungry, DEAR, tokens_per_second=50) is None


def test_no_machine_works_more_than_a_day_in_a_day() -> None:
    rows = day_costs([1e3, 1e9], [(OLD, 50)], [DEAR])
    assert [row["tokens_per_day"] for row in rows if row["where"] == "old"] == [1e3, 50 * 86_400]


def test_below_the_least_speed_a_machine_never_pays_and_above_it_does() -> None:
    speed = costs.least_speed(OLD, DEAR)
    assert break_even(OLD, DEAR, tokens_per_second=0.999 * speed) is None
    assert break_even(OLD, DEAR, tokens_per_second=1.001 * speed) == pytest.approx(speed * 86_400, rel=0.01)


def test_the_table_says_that_its_machines_are_examples() -> None:
    assert {row["basis"] for row in costs._data()["machines"]} == {"example"}
    assert all(machine.dollars_per_day > 0 for machine in costs.example_machines())
