"""The support bot finds, refuses, shows its source, and does not let a model invent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.errors import InvalidInput
from helpers.instruct import faq
from helpers.instruct.faq import Faq
from helpers.intervals import Rate
from helpers.models import sources
from helpers.models.embeddings import ENCODER
from helpers.records import Turn
from talk import fresh, scripted

PATH = Path(__file__).parents[2] / "data" / "faq.json"
DATA = json.loads(PATH.read_text(encoding="utf-8"))
OUTSIDE = [item["question"] for item in DATA["test"] if item["entry"] is None]
#: Found by words, so that no encoder is needed.
SHOP = Faq.load(PATH, by="words")


@pytest.fixture(scope="module")
def by_meaning():
    """The shop as the course runs it."""
    if sources.state(ENCODER) != "ready":
        pytest.skip(f"the encoder is not here: python3 course.py fetch {ENCODER}")
    return Faq.load(PATH)


@pytest.mark.parametrize("question", OUTSIDE)
def test_a_question_outside_the_faq_is_refused(question):
    answer = SHOP.answer(question)
    assert (answer.text, answer.source) == (faq.DONT_KNOW, None)


@pytest.mark.engine
def test_by_meaning_every_entry_is_found_by_its_own_question(by_meaning):
    for entry in by_meaning.entries:
        assert by_meaning.search(entry.question, 1)[0][0] == entry
        assert by_meaning.answer(entry.question).source == entry.source


@pytest.mark.engine
def test_by_meaning_nearly_all_of_the_test_list_is_answered_and_nothing_outside(by_meaning):
    rows = by_meaning.evaluate(DATA["test"])
    inside = rows[rows["in_scope"]]
    assert Rate.of(inside["right"]).share >= 0.9
    assert (inside["answered"] & ~inside["right"]).sum() <= 1
    assert not rows.loc[~rows["in_scope"], "answered"].any()


@pytest.mark.engine
def test_meaning_answers_more_than_words(by_meaning):
    right = [one.evaluate(DATA["test"])["right"].sum() for one in (SHOP, by_meaning)]
    assert right[1] >= right[0] + 10


def test_the_threshold_is_the_best_fit_of_a_dev_question_outside():
    rows = SHOP.evaluate(DATA["dev"])
    assert rows.loc[~rows["in_scope"], "fit"].max() == SHOP.threshold
    assert rows.loc[~rows["in_scope"], "right"].all()


def test_no_question_is_in_two_lists():
    asked = [item["question"] for part in ("dev", "test") for item in DATA[part]]
    asked += [text for entry in SHOP.entries for text in (entry.question, *entry.also)]
    assert len(set(asked)) == len(asked)


def test_both_lists_have_as_many_questions_outside_as_inside():
    for part in ("dev", "test"):
        inside = [item["entry"] is not None for item in DATA[part]]
        assert sum(inside) * 2 == len(inside) >= 60


def test_every_expected_entry_exists():
    known = {entry.id for entry in SHOP.entries}
    assert {item["entry"] for part in ("dev", "test") for item in DATA[part]} <= known | {None}


@pytest.mark.parametrize("question", ["", "the of and", "???", "你好"])
def test_a_question_without_known_words_fits_nothing(question):
    assert SHOP.answer(question).wording == "refusal"


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("You can return it within 30 days.", True),
        ("You can return it within 90 days.", False),
        ("Penguins love expensive chocolate.", False),
        ("", False),
    ],
)
def test_grounded_means_no_number_and_hardly_a_word_of_its_own(text, stays):
    assert faq.grounded(text, "You can return an order within 30 days of delivery.") is stays


@pytest.mark.parametrize(
    ("text", "wording"), [("Our warranty is 3 years.", "the model's words"), ("It is 25 years!", "the page's words")]
)
def test_an_invented_number_is_replaced_by_the_page(text, wording):
    answer = SHOP.answer("How long is the warranty?", scripted(text))
    assert answer.wording == wording
    assert answer.source == "Products, 1"


def test_the_model_is_asked_outside_the_chats_history_which_stays():
    before = (Turn("user", "Hi"), Turn("assistant", "Hello"))
    chat = scripted("Our warranty is 3 years.", history=before)
    SHOP.answer("How long is the warranty?", chat)
    assert chat.history == before
    assert len(chat.backend.asked[0][0]) == 1


def test_the_embedded_model_words_an_answer(llama, card):
    assert "Products" in str(SHOP.answer("How long is the warranty?", fresh(llama, card)))


def test_an_outside_question_is_refused_before_any_model_is_asked():
    assert SHOP.answer("What is the capital of Norway?", chat=object()).wording == "refusal"


def test_an_empty_faq_and_a_dev_list_without_outside_questions_are_refused():
    with pytest.raises(InvalidInput, match="without entries"):
        Faq([])
    with pytest.raises(InvalidInput, match="does not answer"):
        SHOP.choose_threshold([{"question": "a", "entry": "refund"}])
