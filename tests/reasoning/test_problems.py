"""Sums in words: drawn by a seed, with the answer that their sum has."""

from __future__ import annotations

import re

import pytest

from helpers.data import stored
from helpers.errors import InvalidInput
from helpers.reasoning.problems import FILES, SumsPart, word_sums
from helpers.reasoning.programs import value


def test_there_are_sixty_of_four_grades_to_measure_on() -> None:
    problems = word_sums("test")
    assert len({one.question for one in problems}) == 60
    assert [sum(one.steps == steps for one in problems) for steps in (1, 2, 3, 4)] == [15] * 4


@pytest.mark.parametrize("part", FILES)
def test_an_answer_is_what_its_sum_comes_to(part: SumsPart) -> None:
    for one in word_sums(part, count=200):
        assert value(one.expression) == one.answer > 0


def test_every_number_of_the_sum_stands_in_the_question() -> None:
    for one in word_sums("test"):
        drawn = [number for number in re.findall(r"\d+", one.expression) if number != "2"]
        assert set(drawn) <= set(re.findall(r"\d+", one.question))


def test_what_is_tried_out_has_other_templates_than_what_is_measured() -> None:
    parts = [{one.template for one in word_sums(part)} for part in FILES]
    assert all(parts)
    assert len(set().union(*parts)) == sum(map(len, parts))


def test_the_same_seed_draws_the_same_and_a_larger_count_begins_alike() -> None:
    assert word_sums("dev", count=5) == word_sums("dev", count=9)[:5] != word_sums("dev", count=5, seed=9)


def test_a_template_fills_all_its_blanks() -> None:
    assert not [one.question for part in FILES for one in word_sums(part) if "{" in one.question]


@pytest.mark.parametrize("name", ["word_sums", "small_sums"])
def test_a_template_belongs_to_a_part_of_its_file(name: str) -> None:
    assert {one["part"] for one in stored(name)["templates"]} == {part for part, file in FILES.items() if file == name}


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        word_sums("dev", count=0)
    with pytest.raises(InvalidInput, match="no word sums named"):
        word_sums("dawn")
