"""The chat box streams, stops, forgets, and shows a model's text as text."""

from __future__ import annotations

import threading

import pytest

from helpers.instruct import chatbox
from helpers.instruct.chatbox import ChatBox
from helpers.records import Turn
from talk import fresh


@pytest.fixture
def box(llama, card):
    return ChatBox(fresh(llama, card, system="Answer briefly."))


def watch(box):
    """Every state that the page goes through."""
    pages = []
    box._page.observe(lambda change: pages.append(change["new"]), "value")
    return pages


def test_an_answer_comes_piece_by_piece(box):
    pages = watch(box)
    box.ask("What is the capital of Sweden?")
    box.wait()
    answers = [page.count("Stockholm") for page in pages]
    assert len(pages) > 5
    assert answers[0] == 0
    assert answers[-1] == 1


@pytest.mark.fault("conversations")
def test_stop_ends_the_answer_and_keeps_what_came(box):
    first = threading.Event()
    box._page.observe(lambda change: first.set() if "writing" in change["new"] else None, "value")
    box.chat.sampling = box.chat.sampling.__class__(max_new_tokens=400)
    box.ask("Tell me a very long story about a fox.")
    assert first.wait(60)
    box.stop()
    box.wait()
    assert "ended by: cancelled" in box.page
    assert 0 < len(box.chat.history[-1].text) < 800


def test_the_buttons_take_turns(box):
    assert (box.send.disabled, box.stop_button.disabled) == (False, True)
    states = []
    box.stop_button.observe(lambda change: states.append(change["new"]), "disabled")
    box.ask("Hi")
    box.wait()
    assert states == [False, True]


def test_the_send_button_and_the_enter_key_ask_and_empty_the_field(box):
    box.text.value = "Hello"
    box.send.click()
    box.wait()
    box.text.value = "Hello again"
    box._entered(box.text, {"event": "submit"}, [])
    box.wait()
    assert [turn.text for turn in box.chat.history if turn.role == "user"] == ["Hello", "Hello again"]
    assert box.text.value == ""


def test_letters_that_reach_the_kernel_after_the_enter_key_are_asked_too(box):
    box.text.value = "What is the capital of Swe"
    box._entered(box.text, {"event": "submit"}, [])
    box.text.value = "What is the capital of Sweden?"
    box.wait()
    assert box.chat.history[-2].text == "What is the capital of Sweden?"


def test_the_keyboard_goes_back_to_the_field_from_a_button_that_goes_grey(box, monkeypatch):
    places = []
    monkeypatch.setattr(box.text, "focus", lambda: places.append("field"))
    box.text.value = "Hello"
    box.send.click()
    box.stop_button.click()
    box.wait()
    assert places == ["field", "field"]


def test_no_question_is_asked_that_is_empty_or_comes_too_early(box):
    for question in ("", "   "):
        box.ask(question)
    assert box._thread is None
    box.ask("Count to ten.")
    box.ask("And now?")
    box.wait()
    assert [turn.text for turn in box.chat.history if turn.role == "user"] == ["Count to ten."]


def test_clear_forgets_all_but_the_system_message(box):
    box.ask("Hello")
    box.wait()
    box.clear.click()
    assert [turn.role for turn in box.chat.history] == ["system"]
    assert "Hello" not in box.page


def test_an_error_is_told_in_the_box_and_the_next_question_works(box):
    box.ask("x" * 300_000)
    box.wait()
    assert "characters" in box.page
    assert not box.send.disabled
    box.ask("Hello")
    box.wait()
    assert "ended by" in box.page


@pytest.mark.fault("conversations")
def test_what_a_model_writes_is_shown_and_never_run():
    page = chatbox.transcript([Turn("assistant", "<script>alert(1)</script> & more")])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_conversation_so_far_is_stored_before_the_box(llama, card, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    chat = fresh(llama, card)
    chatbox.chat_box(chat)
    chat.say("Hello")
    chatbox.chat_box(chat)
    assert [type(each).__name__ for each in shown] == ["VBox", "HTML", "VBox"]
    assert "Hello" in shown[1].data


def test_the_box_goes_on_where_the_stored_conversation_ends(llama, card):
    chat = fresh(llama, card)
    chat.say("Hello there")
    box = ChatBox(chat)
    assert box.page == ""
    box.ask("And now?")
    box.wait()
    assert "Hello there" not in box.page
    assert "And now?" in box.page
