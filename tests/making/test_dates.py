"""Dates in words: the data, the rules, a few examples instead of training, and what counts as a date."""

from __future__ import annotations

import datetime

import pytest

from helpers.chat import open_chat
from helpers.errors import InvalidInput
from helpers.making import dates


def test_no_date_is_both_trained_on_and_held_out() -> None:
    train, held = dates.examples(2000, 200)
    every = [e.iso for e in train + held]
    assert len(set(every)) == len(every) == 2200
    assert len({e.form for e in held}) == len(dates.DATE_FORMS)


def test_the_iso_form_is_a_real_date() -> None:
    for example in dates.examples(300, 1)[0]:
        assert datetime.date.fromisoformat(example.iso).isoformat() == example.iso


def test_every_month_has_two_slips_that_are_no_month() -> None:
    assert len(set(dates.SLIPS)) == 24
    assert not set(dates.SLIPS) & set(dates.MONTHS)


def test_the_rules_solve_the_forms_they_were_written_for_and_no_others() -> None:
    solved: dict[str, list[bool]] = {}
    for example in dates.examples(500, 1)[0]:
        solved.setdefault(example.form, []).append(dates.by_rules(example.text) == example.iso)
    assert {form: sum(right) / len(right) for form, right in solved.items()} == {
        "day first": 1,
        "month first": 1,
        "spoken year": 0,
        "spoken, month first": 0,
        "misspelt month": 0,
    }


@pytest.mark.parametrize("text", ["", "tomorrow", "the thirty-first of April 1990", "April May the first 1990"])
def test_the_rules_give_nothing_where_they_do_not_fit(text: str) -> None:
    assert dates.by_rules(text) is None


@pytest.mark.parametrize(("count", "held"), [(0, 5), (5, 0), (30_000, 5_000)])
def test_examples_that_cannot_be_made_end_in_a_sentence(count: int, held: int) -> None:
    with pytest.raises(InvalidInput, match="cannot be made"):
        dates.examples(count, held)


@pytest.mark.parametrize(
    "text", ["1976-06-31", "1900-02-29", "2001-00-10", "1976-1-31", "2020-W01-1", " 2001-01-01", ""]
)
def test_what_is_no_date_of_the_calendar_does_not_exist(text: str) -> None:
    assert not dates.exists(text)


def test_every_example_is_a_date_that_exists() -> None:
    assert all(dates.exists(e.iso) for e in dates.examples(300, 1)[0])


def test_a_date_that_does_not_exist_is_wrong_and_counted() -> None:
    held = [dates.DateExample("the thirty-first of Janaury 1976", "1976-01-31", "misspelt month")] * 3
    rows = dates.verdicts(held, ["1976-06-31", None, "1976-01-31"], "a model")
    assert [(row["exists"], row["right"]) for row in rows] == [(False, False), (False, False), (True, True)]


def test_a_few_examples_are_turns_before_the_question_and_one_line_comes_back() -> None:
    shown = dates.examples(2, 1)[0]
    with open_chat("smollm2-135m", backend="echo") as chat:
        given = dates.by_example(chat, shown, ["the first of May 2001\nthe second", "the third of May 2001"])
        assert given == ["the first of May 2001", "the third of May 2001"]
        assert chat.history == ()
