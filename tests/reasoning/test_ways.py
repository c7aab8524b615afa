"""One problem asked in three ways of a model, alone and many at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines_here import provider_of_our_own
from helpers.backends import providers
from helpers.errors import InvalidInput
from helpers.reasoning.problems import word_sums
from helpers.reasoning.ways import WAYS_TO_ASK, attempts, number_of, wording

PROBLEM = word_sums("dev", count=1)[0]


@pytest.mark.engine
def test_a_server_answers_many_in_their_order_within_the_ways_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAYS_TO_ASK, "at once", replace(WAYS_TO_ASK["at once"], cap=3))
    route = providers.route(provider_of_our_own())
    asked = [(problem, sample) for problem in word_sums("dev", count=2) for sample in (1, 2)]
    found = list(attempts(route, "smollm2-135m", asked, "at once", temperature=0.7, at_once=2))
    assert [(one.question, one.sample) for one in found] == [(problem.question, sample) for problem, sample in asked]
    assert all(0 < one.new_tokens <= 3 for one in found)
    assert all(one.right == (one.number == str(problem.answer)) for one, (problem, _) in zip(found, asked, strict=True))


def test_what_was_cut_off_gives_no_number() -> None:
    assert number_of("Answer: 4", "step by step") == 4
    assert number_of("Answer: 4", "step by step", cut=True) is None
    assert number_of("answer = 2 * 2", "program") == 4
    assert number_of("import os", "program") is None


def test_a_way_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(InvalidInput, match="no way named") as error:
        wording(PROBLEM, "at length")
    assert "step by step" in str(error.value)
