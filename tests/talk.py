"""Conversations for the tests, on an engine that is already open."""

from __future__ import annotations

from typing import Any

from helpers.backends import Backend
from helpers.chat import Chat, sampling_of
from helpers.records import ModelCard, Sampling

#: Engines that write a few tokens a second on a processor.
SLOW = {"mlx"}


def fresh(
    backend: Backend, card: ModelCard, *, system: str | None = None, shorten: bool = False, **options: Any
) -> Chat:
    """A new conversation; answers have at most 16 tokens, on a slow engine 3, unless `options` say otherwise."""
    brief = Sampling(max_new_tokens=3 if backend.name in SLOW else 16)
    return Chat(backend, card, system=system, sampling=sampling_of(brief, options), shorten=shorten)
