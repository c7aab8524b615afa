"""Questions with the tool call that answers them: to show a model what is asked of it, and to score what it chose.

A small model copies the examples in front of it, above all the last one, rather than that it understands what a tool
is for. So it is shown those that are nearest to the question (Liu et al. 2022, "What Makes Good In-Context Examples
for GPT-3?"), the nearest last. Near means: rare words in common (BM25), whatever the numbers and the quoted texts are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.data import stored
from helpers.errors import InvalidInput
from helpers.instruct.search import Index


@dataclass(frozen=True, slots=True)
class CallExample:
    """A question and the call for it; `accepted` are other arguments as good, `result` and `answer` what comes after.

    The tool "answer" means that none is needed.
    """

    question: str
    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    accepted: tuple[Mapping[str, Any], ...] = ()
    result: str = ""
    answer: str = ""

    @property
    def call(self) -> dict[str, Any]:
        """The call as the model is to write it."""
        return {"tool": self.tool, "arguments": dict(self.arguments)}

    @property
    def later(self) -> Sequence[tuple[Mapping[str, Any], str]]:
        """Further calls with their results, before the answer; none where one call is enough."""
        return ()


@dataclass(frozen=True, slots=True)
class ChainExample(CallExample):
    """An example in which a tool's result is used for the next call; `then` holds those calls and their results."""

    then: tuple[tuple[Mapping[str, Any], str], ...] = ()

    @property
    def later(self) -> Sequence[tuple[Mapping[str, Any], str]]:
        """Further calls with their results, before the answer."""
        return self.then


def chain_examples() -> list[ChainExample]:
    """The course's own, two: a price is looked up and then reckoned with."""
    found = stored("agent_chain")["examples"]
    return [ChainExample(**{**one, "then": tuple((call, result) for call, result in one["then"])}) for one in found]


def tool_questions(part: str = "questions") -> list[CallExample]:
    """The course's own: the thirty "questions", the "examples" that a model is shown, or "dev" to try things on.

    >>> tool_questions("examples")[0].call
    {'tool': 'calculator', 'arguments': {'expression': '12 * 15'}}
    """
    parts = stored("agent_questions")
    if part not in parts:
        raise InvalidInput(f"There are no agent's questions called {part!r}.", f"Choose from {', '.join(parts)}.")
    return [CallExample(**{**item, "accepted": tuple(item.get("accepted", ()))}) for item in parts[part]]


def masked(question: str) -> str:
    """The question with one word for any number and for any quoted text: they do not tell which tool fits.

    >>> masked('Translate "Good morning" 20 times.')
    'Translate quoted number times.'
    """
    return re.sub(r"\d[\d.,]*", "number", re.sub(r'"[^"]*"', "quoted", question))


class Nearest:
    """Examples that can be searched by a question."""

    def __init__(self, examples: Sequence[CallExample]) -> None:
        self._examples = list(examples)
        self._index = Index(masked(one.question) for one in examples)

    def __call__(self, question: str, n: int) -> list[CallExample]:
        """The n nearest examples, the nearest last, where a model looks first."""
        return [self._examples[place] for place, _ in reversed(self._index.search(masked(question), n))]
