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

from helpers import catalog
from helpers.backends import Backend, engines
from helpers.chat import Chat, open_chat
from helpers.records import ModelCard
from helpers.serve import Server, serve
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


def _open(name: str, card: ModelCard) -> Backend:
    engine = engines()[name]
    reason = engine.missing() or (None if engine.hosted else engine.serves(card))
    if reason:
        pytest.skip(reason)
    if name not in _opened:
        provider = provider_of_our_own() if engine.hosted else None
        _opened[name] = open_chat(card.name, backend=name, provider=provider).backend
    return _opened[name]


@cache
def provider_of_our_own() -> str:
    """The name of the provider that our own server is; it is started once and ends with the tests."""
    global _server  # whoever keeps a server keeps it running
    _server = serve("smollm2-135m")
    return "local"
