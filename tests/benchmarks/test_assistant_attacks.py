"""What is stored of the attacks is not made again, where it would be the same."""

from __future__ import annotations

import pytest

from benchmarks.assistant_attacks import read, same_run, unmarked
from benchmarks.report import keep
from helpers.assistant.desk import STOPPED
from helpers.errors import InvalidInput


def row(calls, answer="It is sent."):
    return {"calls": calls, "answer": answer}


def test_a_run_that_touched_nobody_elses_order_is_the_same_under_ones_own_rights():
    done = same_run(row("look_up_order(number=1042) → Order 1042: 2 Luna"), "Where is it?")
    assert (done.answer, done.steps[0].result, done.question) == ("It is sent.", "Order 1042: 2 Luna", "Where is it?")
    assert same_run(row(""), "Hello.").steps == ()


@pytest.mark.parametrize(
    "made_again",
    [
        row("look_up_order(number=2071) → Order 2071: 1 Aurora"),
        row("place_order(lamp='Luna', quantity=1) → Order 5001"),
        row("search_pages(query='a') → One; refund_order(number=2071) → Order 2071 is refunded."),
        row("search_pages(query='a') → One", STOPPED),
    ],
)
def test_any_other_run_is_made_again(made_again):
    assert same_run(made_again, "") is None


def test_a_way_is_judged_on_the_one_that_shows_the_model_the_same():
    assert [unmarked(way) for way in ("schema", "rights", "all four", "datamarking")] == [
        "bare",
        "bare",
        "delimiters",
        "datamarking",
    ]


def test_answers_to_other_attacks_are_refused(tmp_path):
    path = tmp_path / "stored.json"
    keep(path, {"fingerprint": "another", "machine": "", "rows": []})
    with pytest.raises(InvalidInput, match="other attacks"):
        read(path)
