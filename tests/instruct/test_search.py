"""The index ranks by rare words, with fits that mean the same for every question, in every script."""

from __future__ import annotations

import doctest

import pytest

from helpers.instruct import search
from helpers.instruct.search import Index

LAMPS = Index(["The lamp is red", "The lamp is cold", "灯是冷的"])


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(search, optionflags=doctest.ELLIPSIS).failed == 0


def test_a_rare_word_decides() -> None:
    assert [place for place, _ in LAMPS.search("a cold lamp", 2)] == [1, 0]


def test_an_exact_text_fits_wholly_and_another_not_at_all() -> None:
    assert [round(fit, 6) for _, fit in LAMPS.search("The lamp is red")] == [1, pytest.approx(0.24, abs=0.01), 0]


def test_unknown_words_lower_the_fit() -> None:
    assert LAMPS.search("a cold lamp and my uncle")[0][1] < LAMPS.search("a cold lamp")[0][1]


def test_a_script_without_spaces_is_searched_too() -> None:
    assert LAMPS.search("冷", 1)[0][0] == 2


@pytest.mark.parametrize("question", ["", "the of and", "???", "ไม่"])
def test_a_question_without_known_words_fits_nothing(question: str) -> None:
    assert LAMPS.search(question, 1)[0][1] == 0


def test_an_index_of_nothing_finds_nothing() -> None:
    assert Index([]).search("lamp") == []


def test_another_measure_may_take_the_place_of_words() -> None:
    by_length = Index(["a", "abc"], lambda texts: lambda question: [-abs(len(t) - len(question)) for t in texts])
    assert by_length.search("xyz", 1) == [(1, 0)]
