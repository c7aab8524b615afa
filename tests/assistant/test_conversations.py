"""Conversations with a checkable end, on any model: here, behind a script, at a provider."""

from __future__ import annotations

import json

import pytest

from engines_here import provider_of_our_own
from faulty_server import running
from helpers import machine
from helpers.assistant.conversations import conversations, hold
from helpers.chat import open_chat
from talk import call, scripted

TALKS = {one.id: one for one in conversations()}


def held(name, *texts):
    return hold(scripted(*texts), TALKS[name], lambda _: "Nothing.")


def test_there_are_thirty_of_two_to_five_turns():
    assert len(TALKS) == 30
    assert {len(one.turns) for one in TALKS.values()} == {2, 3, 4, 5}


def test_an_end_is_read_from_the_last_answer():
    assert held("shipping and express", call("answer", text="It costs 5."), call("answer", text="12 euros.")).came_about
    assert not held("shipping and express", call("answer", text="12 euros."), call("answer", text="5.")).came_about


def test_an_end_is_read_from_the_book():
    done = held(
        "price, then two",
        call("answer", text="47"),
        call("place_order", lamp="Vega", quantity=2),
        call("answer", text="…"),
    )
    assert done.came_about
    assert str(done).splitlines()[-1] == "→ as it should"


def test_the_cost_is_counted():
    done = held("charging", call("answer", text="3 hours"))
    assert (done.new_tokens, done.prompt_tokens, len(done.answers)) == (2, 2, 2)


def test_another_name_of_a_model_is_all_that_a_provider_needs(monkeypatch):
    said = json.dumps({"choices": [{"delta": {"content": call("answer", text="3 hours")}, "finish_reason": "stop"}]})
    with running() as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.address("says"))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "sk-of-the-test")
        server.words = said
        with open_chat("phi-4-mini", provider="foundry") as chat:
            done = hold(chat, TALKS["charging"], lambda _: "Nothing.")
    assert done.came_about
    assert [one["body"]["messages"][-1]["content"] for one in server.seen][-2:] == list(TALKS["charging"].turns)


@pytest.mark.engine
@pytest.mark.nightly
def test_the_same_conversation_is_held_with_a_model_at_a_provider():
    with open_chat("smollm2-135m", provider=provider_of_our_own(), context=2048) as chat:
        done = hold(chat, TALKS["charging"], lambda _: "Over USB it takes 3 hours.")
    assert len(done.answers) == 2
    assert done.prompt_tokens > 1000


def test_the_energy_of_all_packages_is_summed(tmp_path):
    for package, used in enumerate((2_000_000, 500_000)):
        (tmp_path / f"intel-rapl:{package}").mkdir()
        (tmp_path / f"intel-rapl:{package}" / "energy_uj").write_text(f"{used}\n")
    assert machine.energy_joules(tmp_path) == 2.5


def test_a_machine_that_tells_no_energy_says_so(tmp_path):
    assert machine.energy_joules(tmp_path) is None
