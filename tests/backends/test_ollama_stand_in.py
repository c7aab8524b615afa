"""The official client and ours through an independent implementation of Ollama's routes, where it is faithful."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

import ollama_stand_in
from helpers.backends import Backend, ollama, providers, sdks
from helpers.chat import open_chat
from helpers.records import ModelCard
from talk import fresh

reason = ollama_stand_in.missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))
QUESTION = "What is the capital of Sweden?"


@pytest.fixture(autouse=True)
def way(monkeypatch: pytest.MonkeyPatch, stand_in: str) -> None:
    monkeypatch.delenv("OLLAMA_OPENAI_ADDRESS", raising=False)
    monkeypatch.setenv("OLLAMA_HOST", stand_in)


@pytest.fixture(scope="module")
def ours(card: ModelCard, stand_in: str) -> Iterator[Backend]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", stand_in)
        with open_chat(card.name, "ollama") as opened:
            yield opened.backend


def test_it_listens_on_loopback_only() -> None:
    process, port = ollama_stand_in.running(providers.route("local"))
    listening = [c.laddr for c in psutil.Process(process.pid).net_connections("inet") if c.status == "LISTEN"]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", port)]


def test_the_official_client_lists_shows_and_chats() -> None:
    with ollama.official_client() as official:
        assert ollama_stand_in.MODEL in {model.model for model in official.list().models}
        assert official.show(ollama_stand_in.MODEL).capabilities
        asked = [{"role": "user", "content": QUESTION}]
        answer = official.chat(ollama_stand_in.MODEL, asked, options={"temperature": 0, "num_predict": 12})
    assert "Stockholm" in answer.message.content


def test_ours_answers_as_the_model_behind_it(ours: Backend, llama: Backend, card: ModelCard) -> None:
    answers = {fresh(backend, card).say(QUESTION).text for backend in (ours, llama)}
    assert answers == {"The capital of Sweden is Stockholm."}


def test_its_openai_routes_answer_too(card: ModelCard) -> None:
    named = replace(card, tags={"ollama": ollama_stand_in.MODEL})
    sdk = sdks()["openai"](named, providers.provider("ollama"), context=512)
    reply = fresh(sdk, card, max_new_tokens=3).say(QUESTION)
    assert reply.text
    assert reply.finish_reason == "length"
