"""Each engine with the embedded model, opened once a process, for the fixtures and for tests that name their engine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import ollama_stand_in
from helpers.backends import Backend, engines, providers, sdks
from helpers.chat import Chat, open_chat
from helpers.server import Server, serve

_opened: dict[str, Chat] = {}
_server: Server


def opened(name: str, model: str | Path = "smollm2-135m") -> Chat:
    """The model on this engine, opened once a process."""
    if name not in _opened:
        _opened[name] = _open((engines() | sdks())[name], model)
    return _opened[name]


def _open(engine: type[Backend], model: str | Path) -> Chat:
    behind_ours = engine.name == "ollama" and not ollama_stand_in.real()
    reason = ollama_stand_in.missing() if behind_ours else engine.missing()
    if reason:
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        if behind_ours:
            patch.setenv("OLLAMA_HOST", stand_in_address())
        if engine.hosted:
            return open_chat(model, provider=provider_of_our_own(), sdk=engine.name)
        return open_chat(model, engine.name)


@cache
def provider_of_our_own() -> str:
    """The name of the provider that our own server is; it is started once and ends with the tests."""
    global _server  # whoever keeps a server keeps it running
    _server = serve("smollm2-135m")
    return "local"


def stand_in_address() -> str:
    """The address of an independent implementation of Ollama's routes, in front of our own server."""
    _, port = ollama_stand_in.running(providers.route(provider_of_our_own()))
    return f"127.0.0.1:{port}"
