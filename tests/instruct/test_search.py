"""The index ranks by rare words or by meaning, in every script."""

from __future__ import annotations

import pytest

from helpers.instruct import search
from helpers.instruct.search import Index
from helpers.models import sources
from helpers.models.embeddings import ENCODER

LAMPS = Index(["The lamp is red", "The lamp is cold", "灯是冷的"])


def test_a_rare_word_decides() -> None:
    assert [place for place, _ in LAMPS.search("a cold lamp", 2)] == [1, 0]


def test_a_text_without_a_word_of_the_question_fits_not_at_all() -> None:
    (best, fit), *_, (_, none) = LAMPS.search("The lamp is red")
    assert (best, none) == (0, 0)
    assert fit > 0


@pytest.mark.fault("what people feed in")
def test_a_script_without_spaces_is_searched_too() -> None:
    assert LAMPS.search("冷", 1)[0][0] == 2


@pytest.mark.parametrize("question", ["", "the of and", "???", "ไม่"])
def test_a_question_without_known_words_fits_nothing(question: str) -> None:
    assert LAMPS.search(question, 1)[0][1] == 0


@pytest.mark.parametrize("texts", [[], ["", "the"]])
def test_an_index_of_nothing_finds_nothing(texts: list[str]) -> None:
    assert [fit for _, fit in Index(texts).search("lamp")] == [0] * len(texts)


def test_another_measure_may_take_the_place_of_words() -> None:
    by_length = Index(["a", "abc"], lambda texts: lambda question: [-abs(len(t) - len(question)) for t in texts])
    assert by_length.search("xyz", 1) == [(1, 0)]


@pytest.mark.engine
@pytest.mark.skipif(sources.state(ENCODER) != "ready", reason="the encoder is not here")
def test_meaning_finds_what_has_no_word_in_common() -> None:
    near = Index(["You can pay by card.", "The lamp survives rain."], search.by_meaning)
    [(place, fit)] = near.search("Will it break if water gets in?", 1)
    assert place == 1
    assert 0 < fit < 1
