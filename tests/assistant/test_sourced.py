"""Nothing is shown that stands in no passage, and "I don't know" is told apart from an answer."""

from __future__ import annotations

import pandas as pd
import pytest

from helpers.assistant import questions
from helpers.assistant.answers import NOT_IN_DOCUMENTS, answer_from, near_enough, sentences_of, standing_in
from helpers.assistant.documents import SHOP, Passage, read_document
from helpers.assistant.index import Hit
from helpers.assistant.questions import ShopQuestion, shop_questions, verdict_table
from helpers.records import Turn
from talk import scripted

PERIOD = Passage("You can return an order within 30 days of delivery, unused.", "returns.md", "Returns")
COLOURS = Passage("It changes its colour, knows sixteen of them.", "lamps.md", "Aurora")
HITS = [Hit(PERIOD, 0.03, 1, 1, 0.8), Hit(COLOURS, 0.02, 2, 2, 0.4)]
ASKED = "How long may I keep it?"


def test_each_sentence_carries_the_passage_that_it_stands_in():
    given = answer_from(scripted("You can return it within 30 days. It knows sixteen colours."), ASKED, HITS)
    assert [one.source for one in given.sentences] == [PERIOD, COLOURS]
    assert str(given).startswith("You can return it within 30 days. [returns.md, Returns]")


def test_what_stands_nowhere_is_left_out_and_told():
    given = answer_from(scripted("Return it within 30 days. Our branch in Paris repairs everything."), ASKED, HITS)
    assert (given.text, given.gate) == ("Return it within 30 days.", "answered")
    assert given.dropped == ("Our branch in Paris repairs everything.",)


@pytest.mark.parametrize(
    ("written", "gate"),
    [
        ("Within 60 days of delivery.", "ungrounded"),
        ("I don't know.", "the model"),
        ("The pages do not mention that.", "the model"),
        ("", "the model"),
    ],
)
def test_a_wrong_number_and_a_refusal_end_alike_for_the_reader(written, gate):
    given = answer_from(scripted(written), ASKED, HITS)
    assert (given.gate, str(given), given.sources) == (gate, NOT_IN_DOCUMENTS, ())


def test_where_nothing_is_near_the_model_is_not_asked():
    chat = scripted("Anything.")
    assert answer_from(chat, "Who won?", [Hit(PERIOD, 0.01, None, 1, 0.1)]).gate == "nothing near"
    assert answer_from(chat, "Who won?", []).gate == "nothing near"
    assert chat.backend.asked == []
    assert near_enough([Hit(PERIOD, 0.01, 1)])  # found by words alone: there is no cosine to judge


def test_the_chat_keeps_its_own_history():
    chat = scripted("Within 30 days of delivery.")
    answer_from(chat, ASKED, HITS)
    assert chat.history == ()


@pytest.mark.parametrize(
    ("sentence", "stands"),
    [
        ("It knows 16 colours.", COLOURS),
        ("Returning is possible for 30 days.", None),  # "possible" is the model's own
        ("Orders are returned within thirty days.", PERIOD),
        ("Orders are returned within sixty days.", None),
        ("You may keep it long.", None),  # nothing but the question's words
        ("Within 30 days of delivery.", PERIOD),
        ("You may keep sofas unused.", None),  # one word of the passage, and a claim of its own
    ],
)
def test_a_sentence_stands_in_a_passage_by_its_numbers_and_its_words(sentence, stands):
    assert standing_in(sentence, ASKED, [PERIOD, COLOURS]) == stands


def test_a_text_is_cut_into_sentences_not_at_a_decimal():
    assert [*sentences_of("It costs 24.50 euros. Free above 60!\n- A lamp")] == [
        "It costs 24.50 euros.",
        "Free above 60!",
        "A lamp",
    ]


def test_all_forty_places_are_in_the_documents():
    passages = [one for path in sorted(SHOP.iterdir()) for one in read_document(path)]
    forty = shop_questions()
    assert [sum(one.answerable for one in part) for part in (forty, shop_questions("dev"))] == [30, 20]
    assert len(forty) == 40
    for one in [*forty, *shop_questions("dev")]:
        assert not one.answerable or sum(map(one.stands_in, passages)) == 1
    # What an answer must say stands at its place, but for a yes or no and what is written out there.
    texts = {one: " ".join(p.text for p in passages if one.stands_in(p)) for one in forty if one.answerable}
    assert sum(one.verdict(text, refused=False) == "right" for one, text in texts.items()) >= 28


@pytest.mark.parametrize(
    ("said", "refused", "verdict"),
    [
        ("It weighs 540 g.", False, "right"),
        ("It weighs 5400 g.", False, "wrong"),
        ("It weighs 540.5 g.", False, "wrong"),
        ("…", True, "refused"),
    ],
)
def test_a_verdict_looks_for_the_whole_number(said, refused, verdict):
    assert ShopQuestion("?", "a.md", "A", (("540",),)).verdict(said, refused=refused) == verdict


def test_of_a_question_without_an_answer_only_a_refusal_is_right():
    one = ShopQuestion("?", None, None)
    assert [one.verdict("Yes.", refused=flag) for flag in (False, True)] == ["wrong", "refused"]


def test_a_table_of_verdicts_counts_both_kinds_of_questions():
    rows = pd.DataFrame(
        [("m", "w", True, "right"), ("m", "w", True, "wrong"), ("m", "w", False, "refused")],
        columns=["model", "way", "answerable", "verdict"],
    )
    assert verdict_table(rows).to_dict("records") == [
        {"model": "m", "way": "w", "right": 1, "refused": 0, "wrong": 1, "told apart": 1, "invented": 0}
    ]


def test_an_answer_alone_sees_no_document():
    chat = scripted("I don't know.")
    row = questions.alone_row(chat, ShopQuestion("What does it weigh?", None, None))
    assert row["verdict"] == "refused"
    assert chat.backend.asked[0][0][-1] == Turn("user", "What does it weigh?")
