"""What every test may count on: no window opens, no progress bar is drawn, and each engine is opened once.

The embedded model comes from the learner's own cache, where `course.py` has put it; no test writes there.
"""

from __future__ import annotations

import os
from functools import cache

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import ollama_stand_in
from helpers import catalog
from helpers.backends import Backend, engines, providers
from helpers.chat import Chat, open_chat
from helpers.records import ModelCard
from helpers.server.serve import Server, serve
from talk import fresh

_opened: dict[str, Backend] = {}
_server: Server


@pytest.fixture(scope="session")
def card() -> ModelCard:
    return catalog.card("smollm2-135m")


@pytest.fixture(scope="session", params=sorted(engines()))
def backend(request: pytest.FixtureRequest, card: ModelCard) -> Backend:
    """Each engine with the embedded model; one that is absent here skips with its reason."""
    return _open(request.param, card)


@pytest.fixture
def chat(backend: Backend, card: ModelCard) -> Chat:
    """A fresh conversation on each engine."""
    return fresh(backend, card)


@pytest.fixture(scope="session")
def llama(card: ModelCard) -> Backend:
    return _open("llamacpp", card)


@pytest.fixture(scope="session")
def reference(card: ModelCard) -> Backend:
    """transformers, the engine that the others are compared with."""
    return _open("transformers", card)


@pytest.fixture(scope="session")
def stand_in() -> str:
    """The address of an independent implementation of Ollama's routes, in front of our own server."""
    return _stand_in()


def _open(name: str, card: ModelCard) -> Backend:
    if name not in _opened:
        behind_ours = name == "ollama" and not ollama_stand_in.real()
        _opened[name] = _open_stand_in(card) if behind_ours else _open_here(engines()[name], card)
    return _opened[name]


def _open_here(engine: type[Backend], card: ModelCard) -> Backend:
    reason = engine.missing() or (None if engine.hosted else engine.serves(card))
    if reason:
        pytest.skip(reason)
    provider = provider_of_our_own() if engine.hosted else None
    return open_chat(card.name, backend=engine.name, provider=provider).backend


def _open_stand_in(card: ModelCard) -> Backend:
    reason = ollama_stand_in.missing()
    if reason:
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", _stand_in())
        return open_chat(card.name, backend="ollama").backend


@cache
def provider_of_our_own() -> str:
    """The name of the provider that our own server is; it is started once and ends with the tests."""
    global _server  # whoever keeps a server keeps it running
    _server = serve("smollm2-135m")
    return "local"


def _stand_in() -> str:
    _, port = ollama_stand_in.running(providers.route(provider_of_our_own()))
    return f"127.0.0.1:{port}"
