"""One problem asked in three ways of a model, alone and many at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines_here import provider_of_our_own
from helpers.backends import Backend, providers
from helpers.errors import InvalidInput
from helpers.reasoning.problems import word_sums
from helpers.reasoning.ways import WAYS_TO_ASK, attempt, attempts, number_of, wording
from helpers.records import ModelCard
from talk import fresh

PROBLEM = word_sums("dev", count=1)[0]


@pytest.mark.parametrize("way", WAYS_TO_ASK)
def test_a_chat_answers_within_the_ways_cap_and_is_left_as_it_was(
    llama: Backend, card: ModelCard, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAYS_TO_ASK, way, replace(WAYS_TO_ASK[way], cap=12))
    chat = fresh(llama, card)
    found = attempt(chat, PROBLEM, way)
    assert found.new_tokens <= WAYS_TO_ASK[way].cap
    assert found.text
    assert found.right == (found.number == str(PROBLEM.answer))
    assert not chat.history


@pytest.mark.engine
def test_a_server_answers_many_in_their_order() -> None:
    route = providers.route(provider_of_our_own())
    asked = [(problem, sample) for problem in word_sums("dev", count=2) for sample in (1, 2)]
    found = list(attempts(route, "smollm2-135m", asked, "at once", temperature=0.7, at_once=2))
    assert [(one.question, one.sample) for one in found] == [(problem.question, sample) for problem, sample in asked]


def test_what_was_cut_off_gives_no_number() -> None:
    assert number_of("Answer: 4", "step by step") == 4
    assert number_of("Answer: 4", "step by step", cut=True) is None
    assert number_of("answer = 2 * 2", "program") == 4
    assert number_of("import os", "program") is None


def test_a_way_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(InvalidInput, match="no way named") as error:
        wording(PROBLEM, "at length")
    assert "step by step" in str(error.value)
