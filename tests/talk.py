"""Conversations for the tests, on an engine that is already open."""

from __future__ import annotations

from typing import Any

from helpers.backends import Backend
from helpers.chat import Chat, sampling_of
from helpers.records import ModelCard, Sampling


def fresh(
    backend: Backend, card: ModelCard, *, system: str | None = None, shorten: bool = False, **options: Any
) -> Chat:
    """A new conversation; answers have at most 16 tokens unless `options` say otherwise."""
    return Chat(
        backend, card, system=system, sampling=sampling_of(Sampling(max_new_tokens=16), options), shorten=shorten
    )
