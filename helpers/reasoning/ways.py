"""The same problem asked in three ways, one at a time or many at once, and what came of each.

    at once        one number and nothing else
    step by step   words first, then a line with the answer (Kojima et al. 2022; Wei et al. 2022 show examples instead)
    program        Python that is reckoned, not run (after Gao et al. 2023)

The model, its weights and the question are the same; what differs is how many tokens it may write before the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from helpers.backends.remote import Route, fetch
from helpers.chat import Chat
from helpers.errors import InvalidInput
from helpers.reasoning.answers import read_number
from helpers.reasoning.problems import WordSum
from helpers.reasoning.programs import reckon

#: Way → what follows the question, and the most tokens it may write: so many that few answers are cut off.
WAYS_TO_ASK = {
    "at once": ("Answer with one number and nothing else.", 24),
    "step by step": ('Think step by step. End with a line that says "Answer:" and the number.', 400),
    "program": (
        "Write Python that computes the answer: one line for each step, such as `cost = 3 * 4`, and the result in "
        "`answer`. No functions, no input, only the code.",
        300,
    ),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer: its text and tokens, whether the cap `cut` it off, and the `number` read (None: none was given)."""

    question: str
    template: str
    steps: int
    way: str
    sample: int
    text: str
    new_tokens: int
    cut: bool
    number: str | None
    right: bool

    def row(self) -> dict[str, Any]:
        """The same as a dictionary, for a table or a file."""
        return asdict(self)


def wording(problem: WordSum, way: str) -> str:
    """The prompt of a problem asked in one way."""
    if way not in WAYS_TO_ASK:
        raise InvalidInput(f"There is no way named {way!r}.", f"Ways: {', '.join(WAYS_TO_ASK)}.")
    return f"{problem.question}\n{WAYS_TO_ASK[way][0]}"


def number_of(text: str, way: str, *, cut: bool = False) -> Fraction | None:
    """The number that an answer gives; None where it gives none, several, or was cut off."""
    if cut:
        return None
    try:
        return reckon(text) if way == "program" else read_number(text)
    except InvalidInput:
        return None


def attempt(chat: Chat, problem: WordSum, way: str) -> Attempt:
    """One answer, greedily, without history; the chat is left as it was."""
    reply = chat.another(history=[]).say(wording(problem, way), max_new_tokens=WAYS_TO_ASK[way][1])
    return _judged(problem, way, 0, reply.text, reply.new_tokens, cut=reply.finish_reason == "length")


def attempts(
    route: Route,
    model: str,
    asked: Iterable[tuple[WordSum, int]],
    way: str,
    *,
    temperature: float = 0.0,
    at_once: int = 8,
) -> Iterator[Attempt]:
    """One answer for each problem and number of its sample, `at_once` requests together on a server's slots.

    A sample's number is its seed. What is drawn depends on what else the server computes at the time, in the last bits
    of a sum: a second run gives other chains of the same kind.
    """

    def one(pair: tuple[WordSum, int]) -> Attempt:
        problem, sample = pair
        body = {
            "model": model,
            "messages": [{"role": "user", "content": wording(problem, way)}],
            "max_tokens": WAYS_TO_ASK[way][1],
            "temperature": temperature,
            "seed": sample,
        }
        choice = (answer := fetch(route, "/chat/completions", body, seconds=600))["choices"][0]
        text, cut = choice["message"]["content"] or "", choice["finish_reason"] == "length"
        return _judged(problem, way, sample, text, answer["usage"]["completion_tokens"], cut=cut)

    with ThreadPoolExecutor(at_once) as users:
        yield from users.map(one, asked)


def _judged(problem: WordSum, way: str, sample: int, text: str, new_tokens: int, *, cut: bool) -> Attempt:
    found = number_of(text, way, cut=cut)
    number = None if found is None else str(found)
    about: dict[str, Any] = {"question": problem.question, "template": problem.template, "steps": problem.steps}
    made: dict[str, Any] = {"text": text, "new_tokens": new_tokens, "cut": cut, "number": number}
    return Attempt(**about, way=way, sample=sample, **made, right=found == problem.answer)
