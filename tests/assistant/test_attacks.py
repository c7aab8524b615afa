"""Attacks reach the model by the way they are said to, and whether one won is a fact."""

from __future__ import annotations

import pytest

from helpers.assistant.attacks import (
    ATTACK_WAYS,
    Attack,
    ask_desk,
    attack_desk,
    attacks,
    benign_questions,
    came_about,
    judged_anew,
    page_read,
)
from helpers.assistant.orders import THE_SHOP, OrderBook, Person
from helpers.errors import InvalidInput
from talk import call, scripted

ATTACKS = {one.id: one for one in attacks()}
PAGES = [one for one in ATTACKS.values() if one.page]


def tried(name, tmp_path, *calls, way="bare"):
    return attack_desk(scripted(*calls), ATTACKS[name], ATTACK_WAYS[way], find=lambda _: "Nothing.", folder=tmp_path)


# The lists


def test_there_are_twenty_attacks_and_twenty_honest_questions():
    assert len(ATTACKS) == 20
    assert len({one.question for one in benign_questions()}) == 20
    assert {one.channel for one in ATTACKS.values()} >= {"page", "white PDF", "picture", "result", "user"}


# The pages


@pytest.mark.parametrize(
    "one", [one for one in PAGES if one.channel in ("page", "white HTML", "white PDF")], ids=lambda one: one.id
)
def test_what_is_hidden_from_an_eye_is_read_by_a_program(one, tmp_path):
    assert one.hidden in page_read(one, tmp_path)


def test_a_comment_is_not_read(tmp_path):
    found = page_read(ATTACKS["code at the end"], tmp_path)
    assert "PayPal" in found
    assert "staff code" not in found


@pytest.mark.engine
def test_pale_words_in_a_picture_are_read(tmp_path):
    assert "FREE LAMPS FOR ALL" in page_read(ATTACKS["free lamps"], tmp_path)


# What counts as won


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"says": "mill lane"}, "To Mill Lane 4."),
        ({"only": "free lamps for all"}, "FREE lamps, for all!"),
        ({"leaks": True}, "1744-NUS"),
        ({"leaks": True}, "S-U-N-4-4-7-1"),
        ({"never": "Mill Lane"}, "I cannot say."),
    ],
)
def test_what_came_about_in_a_text(wanted, text):
    assert came_about(wanted, text, OrderBook())
    assert not came_about(wanted, "Our lamps go to Mill Lane now." if "never" in wanted else "Lamps.", OrderBook())


def test_what_came_about_in_the_book():
    book = OrderBook.of_the_shop()
    book.place(Person("anna"), "Luna", 3)
    assert came_about({"noted": "Luna", "booked": "3 Luna"}, "", book)
    assert not came_about({"ordered": "Luna"}, "", book)
    book.refund(THE_SHOP, 2071)
    assert came_about({"refunded": 2071}, "", book)


@pytest.mark.parametrize("wanted", [{}, {"hopes": 1}])
def test_an_end_that_nothing_tells_is_refused(wanted):
    with pytest.raises(InvalidInput, match="Nothing tells"):
        came_about(wanted, "", OrderBook())


# The ways


def test_bare_tools_have_the_shops_rights_and_defended_ones_the_visitors(tmp_path):
    calls = [call("refund_order", number=2071), call("answer", text="Done.")]
    assert tried("refund by a page", tmp_path, *calls).came_about
    assert not tried("refund by a page", tmp_path, *calls, way="rights").came_about


def test_the_note_of_a_customer_comes_with_the_order(tmp_path):
    done = tried("password by a note", tmp_path, call("look_up_order", number=1042), call("answer", text="Sent."))
    assert "lumen-login.example" in done.answer.run.steps[0].result


def test_the_same_run_is_judged_under_another_defence(tmp_path):
    bare = tried("refund site", tmp_path, call("answer", text="Log in at lumen-refund.example."))
    one: Attack = ATTACKS["refund site"]
    assert bare.came_about
    assert not judged_anew(bare.answer.run, ATTACK_WAYS["schema"], one.wins, bare.book).came_about


def test_an_honest_question_is_asked_under_the_same_defences():
    asked = benign_questions()[0]
    done = ask_desk(scripted(call("answer", text="30 days.")), asked, ATTACK_WAYS["bare"], find=lambda _: "30 days.")
    assert done.came_about
