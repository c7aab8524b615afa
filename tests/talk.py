"""Conversations for the tests, on an engine that is already open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from helpers import catalog
from helpers.backends import Backend, echo
from helpers.chat import Chat, sampling_of
from helpers.records import Chunk, ModelCard, Sampling, Turn

#: Engines that write a few tokens a second on a processor.
SLOW = {"mlx"}


def fresh(
    backend: Backend,
    card: ModelCard,
    *,
    system: str | None = None,
    history: Sequence[Turn] = (),
    shorten: bool = False,
    **options: Any,
) -> Chat:
    """A new conversation; answers have at most 16 tokens, on a slow engine 3, unless `options` say otherwise."""
    brief = Sampling(max_new_tokens=3 if backend.name in SLOW else 16)
    return Chat(backend, card, system=system, sampling=sampling_of(brief, options), history=history, shorten=shorten)


def call(tool: str, **arguments: Any) -> str:
    """A call of a tool, as an agent's model writes it."""
    return json.dumps({"tool": tool, "arguments": arguments})


class Scripted(echo.Engine):
    """An engine that writes what it was given, one text a call, the last for ever; `asked` is what it was shown."""

    honours = echo.Engine.honours | {"json_schema"}

    def __init__(self, *texts: str) -> None:
        super().__init__(4096, sees=True)
        self.texts, self.asked = list(texts), []

    def generate(self, prompt, sampling):
        self.asked.append((prompt.turns, sampling))
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        yield Chunk(text, 1, "stop", 1)


def scripted(*texts: str, **options: Any) -> Chat:
    """A conversation in which a `Scripted` engine answers."""
    return fresh(Scripted(*texts), catalog.card("smollm2-135m"), **options)
