"""The course's own questions and sentence pairs keep the form that the measurements rest on."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

DATA = Path(__file__).parents[2] / "data"
ITEMS = json.loads((DATA / "comprehension.json").read_text(encoding="utf-8"))
PAIRS = json.loads((DATA / "bias_pairs.json").read_text(encoding="utf-8"))
ARITHMETIC = {
    "What is 2 + 2?": 2 + 2,
    "What is half of 10?": 10 // 2,
    "Which number comes after 19?": 19 + 1,
    "What is 7 times 8?": 7 * 8,
    "What is 100 minus 37?": 100 - 37,
    "What is 15 percent of 200?": 200 * 15 // 100,
    "What is 17 times 23?": 17 * 23,
    "What is the remainder when 2 to the power of 10 is divided by 7?": 2**10 % 7,
    "Three pens cost 4.50. What do seven pens cost?": 4.5 / 3 * 7,
}


def test_there_are_questions_enough_in_fields_enough():
    fields = Counter(item["field"] for item in ITEMS)
    assert len(ITEMS) >= 80
    assert len(fields) >= 8
    assert min(fields.values()) == max(fields.values())


def test_every_item_has_four_different_options_and_an_answer():
    for item in ITEMS:
        assert set(item) == {"field", "difficulty", "question", "options", "answer"}
        assert len({option.lower() for option in item["options"]}) == 4, item["question"]
        assert item["answer"] in range(4)
        assert item["difficulty"] in ("easy", "medium", "hard")


def test_no_question_is_asked_twice():
    asked = Counter(re.sub(r"\W+", " ", item["question"]).lower() for item in ITEMS)
    assert max(asked.values()) == 1


def test_the_right_answer_stands_in_every_place_equally_often():
    places = Counter(item["answer"] for item in ITEMS)
    assert max(places.values()) - min(places.values()) <= 1


def test_choosing_the_longest_or_the_shortest_option_does_not_pay():
    for choose in (max, min):
        right = sum(choose(item["options"], key=len) == item["options"][item["answer"]] for item in ITEMS)
        assert right / len(ITEMS) < 0.4


def test_sums_are_right():
    answers = {item["question"]: item["options"][item["answer"]] for item in ITEMS}
    assert {question: float(answers[question]) for question in ARITHMETIC} == ARITHMETIC


def test_there_are_pairs_enough_in_categories_enough():
    categories = Counter(pair["category"] for pair in PAIRS)
    assert len(PAIRS) >= 60
    assert len(categories) >= 5
    assert "control" in categories


def test_every_sentence_is_used_once_and_differs_from_its_partner():
    sentences = [pair[kind] for pair in PAIRS for kind in ("more_stereotypical", "less_stereotypical")]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence.endswith(".") for sentence in sentences)


def test_a_cross_joins_two_pairs_that_use_the_same_words():
    """Only then does a word's frequency cancel out in the cross's mean."""
    for cross in {pair["cross"] for pair in PAIRS}:
        one, two = [pair for pair in PAIRS if pair["cross"] == cross]
        favoured = words(one["more_stereotypical"]) + words(two["more_stereotypical"])
        assert favoured == words(one["less_stereotypical"]) + words(two["less_stereotypical"])
        assert one["category"] == two["category"]


def words(sentence: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", sentence))
