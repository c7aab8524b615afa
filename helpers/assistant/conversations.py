"""Thirty conversations with the shop's assistant, each with an end that a program can check, and what they cost.

    held = hold(chat, conversations()[0], find)
    held.came_about, held.new_tokens, held.seconds

A conversation ends well when its last answer, or the shop's book after it, is as its `ends` say. What goes before may
be odd. The model may run anywhere: a chat at a provider is given in place of one here, and nothing else changes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers import machine
from helpers.assistant.attacks import came_about
from helpers.assistant.desk import Desk, DeskAnswer
from helpers.assistant.mcp_server import Finder, search_tool
from helpers.assistant.orders import OrderBook, Person, desk_tools
from helpers.chat import Chat
from helpers.data import stored


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a person says, turn after turn, and what must have come about at the end."""

    id: str
    person: str
    turns: Sequence[str]
    ends: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """A conversation that was held: its `answers`, whether its end `came_about`, and what it cost.

    `prompt_tokens` are all that the model was shown, most of them again and again, and from its cache. `joules` are
    those of the whole processor, where the machine tells them.
    """

    conversation: Conversation
    answers: tuple[DeskAnswer, ...] = field(repr=False)
    came_about: bool
    prompt_tokens: int
    new_tokens: int
    seconds: float
    joules: float | None

    def __str__(self) -> str:
        said = zip(self.conversation.turns, self.answers, strict=True)
        lines = [f"{self.conversation.person}: {asked}\n    {answer.text}" for asked, answer in said]
        return "\n".join([*lines, "→ as it should" if self.came_about else "→ not as it should"])


def conversations() -> list[Conversation]:
    """The course's thirty."""
    return [Conversation(**one) for one in stored("assistant_conversations")]


def hold(chat: Chat, one: Conversation, find: Finder) -> Held:
    """The conversation held once, with a new book, under the person's own rights; the chat's history is left alone."""
    person, book = Person(one.person), OrderBook.of_the_shop()
    desk = Desk(chat, [search_tool(find), *desk_tools(book, person)])
    energy, started = machine.energy_joules(), time.perf_counter()
    answers = tuple(desk.say(turn) for turn in one.turns)
    seconds, spent = time.perf_counter() - started, machine.energy_joules()
    used = desk.agent.used
    return Held(
        conversation=one,
        answers=answers,
        came_about=came_about(one.ends, answers[-1].text, book),
        prompt_tokens=used["prompt_tokens"],
        new_tokens=used["new_tokens"],
        seconds=seconds,
        joules=None if energy is None or spent is None or spent < energy else spent - energy,
    )
