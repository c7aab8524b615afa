"""The same problem asked in three ways, many at once, and what came of each.

    at once        one number and nothing else
    step by step   words first, then a line with the answer, as two examples show it (Wei et al. 2022)
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
from helpers.errors import InvalidInput
from helpers.reasoning.answers import read_number
from helpers.reasoning.problems import WordSum
from helpers.reasoning.programs import reckon
from helpers.records import Turn

#: Two problems that every way is shown with their answers, so that all see the same and write in a few tokens.
SHOWN_SUMS = (
    "A box holds 12 cups. How many cups do 5 boxes hold?",
    "A lamp costs 24 euros. A customer buys 3 lamps and gets 10 euros off the whole. How many euros does the customer "
    "pay?",
)


@dataclass(frozen=True, slots=True)
class Way:
    """What follows the question, the answers to `SHOWN_SUMS` in this way, and the most tokens it may take."""

    told: str
    shown: tuple[str, str]
    cap: int


WAYS_TO_ASK = {
    "at once": Way("Answer with one number and nothing else.", ("60", "62"), 24),
    "step by step": Way(
        'Think step by step. End with a line that says "Answer:" and the number.',
        (
            "5 boxes hold 5 * 12 = 60 cups.\nAnswer: 60",
            "The lamps cost 3 * 24 = 72 euros. With 10 euros off that is 72 - 10 = 62 euros.\nAnswer: 62",
        ),
        200,
    ),
    "program": Way(
        "Write Python, a line for each step. The last line sets `answer`.",
        ("```python\nanswer = 5 * 12\n```", "```python\nlamps = 3 * 24\nanswer = lamps - 10\n```"),
        120,
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


def wording(problem: WordSum, way: str) -> list[Turn]:
    """The turns of a problem asked in one way: two others with their answers, and the question."""
    if way not in WAYS_TO_ASK:
        raise InvalidInput(f"There is no way named {way!r}.", f"Ways: {', '.join(WAYS_TO_ASK)}.")
    asked = [f"{question}\n{WAYS_TO_ASK[way].told}" for question in (*SHOWN_SUMS, problem.question)]
    shown = [Turn("assistant", answer) for answer in WAYS_TO_ASK[way].shown]
    return [Turn("user", asked[0]), shown[0], Turn("user", asked[1]), shown[1], Turn("user", asked[2])]


def number_of(text: str, way: str, *, cut: bool = False) -> Fraction | None:
    """The number that an answer gives; None where it gives none, several, or was cut off."""
    if cut:
        return None
    try:
        return reckon(text) if way == "program" else read_number(text)
    except InvalidInput:
        return None


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
            "messages": [{"role": turn.role, "content": turn.text} for turn in wording(problem, way)],
            "max_tokens": WAYS_TO_ASK[way].cap,
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
