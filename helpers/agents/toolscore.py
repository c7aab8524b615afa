"""How well an agent chooses: the tool, its arguments, and whether what it wrote was a call at all.

The choice is scored apart from the answer. Arguments are right where they equal accepted ones, or where the tool makes
the same of them: `12*15` and `15 * 12` are one call. A rule of a few words tells what a score is worth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from helpers.agents.agent import Agent, Choice, Run
from helpers.agents.examples import CallExample
from helpers.agents.tools import Tool
from helpers.errors import InvalidInput
from helpers.intervals import Rate

if TYPE_CHECKING:
    import pandas as pd

#: A rule of a few words for each tool. Whoever wrote it knew the questions, so its score flatters it.
KEYWORDS = {
    "translate": r"\btranslate\b|\bsay\b|\b(French|German|Spanish|Swedish|Chinese|English)\b",
    "text_statistics": r"\bwords?\b|\bletters?\b|\bsentences?\b|\bcount\b",
    "search_course": r"\bcourse\b|\blessons?\b",
    "convert_units": r"\bconvert\b|\b(miles|kilometres|metres|feet|celsius|fahrenheit|kilograms|pounds|hours|mph)\b",
    "calculator": r"\d",
}
MEASURES = ("tool", "arguments", "valid")


def score_agent(agent: Agent, questions: Sequence[CallExample]) -> pd.DataFrame:
    """One row a question: the `choice`, and whether the `tool` and its `arguments` are right and the call was `valid`.

    `cut` is true where what the model wrote ended at the cap on new tokens.

    What counts is what the model writes first: it is not asked again. Where no tool is needed, `arguments` has no
    value.
    """
    import pandas as pd

    return pd.DataFrame([_row(agent, question) for question in questions])


def score_chains(agent: Agent, questions: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a question in which one tool's result is the next one's argument, each run to its end.

    `used` says whether a number of an earlier result stands among the arguments of a later call, and `right` whether
    the last number of the answer is the `wanted` one. `calls` is all that was called.
    """
    import pandas as pd

    rows = []
    for one in questions:
        done = agent.run(one["question"])
        said = _numbers(done.answer) if done.ending == "answered" else []
        row = {"question": one["question"], "calls": "; ".join(map(str, done.steps)), "answer": done.answer}
        row |= {"ending": done.ending, "used": _handed_on(done)}
        rows.append(row | {"right": bool(said) and math.isclose(said[-1], one["wanted"], abs_tol=0.005)})
    return pd.DataFrame(rows)


def _handed_on(done: Run) -> bool:
    """Whether some call has a number in it that an earlier one gave, and that the question does not say itself."""
    known, given = set(_numbers(done.question)), set[float]()
    for step in done.steps:
        if given & set(_numbers(str(dict(step.choice.arguments)))):
            return True
        given |= set() if step.failed else set(_numbers(step.result)) - known
    return False


def _numbers(text: str) -> list[float]:
    """The numbers in a text; a comma between thousands is left out."""
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", text))]


def agent_shares(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each `agent` and measure: the `share` with its 95 % interval (Wilson's), and the `questions`."""
    import pandas as pd

    table = []
    for name, part in rows.groupby("agent", sort=False):
        for measure in [measure for measure in MEASURES if measure in part]:
            rate = Rate.of(part[measure].dropna())
            low, high = rate.interval
            table.append({"agent": name, "measure": measure, "right": rate.successes, "questions": rate.trials})
            table[-1] |= {"share": rate.share, "low": low, "high": high}
    return pd.DataFrame(table)


def by_keyword(question: str) -> str:
    """The first tool of `KEYWORDS` whose words are in the question; "answer" where none is.

    >>> by_keyword("What is 2 plus 2?")
    'calculator'
    """
    found = (name for name, words in KEYWORDS.items() if re.search(words, question, re.IGNORECASE))
    return next(found, "answer")


def right_arguments(used: Tool, question: CallExample, choice: Choice) -> bool:
    """Whether the choice, which names the right tool, has arguments as good as the expected ones."""
    if choice.problem:
        return False
    try:
        wanted = [used.validate(arguments) for arguments in (question.arguments, *question.accepted)]
        if any(_alike(choice.arguments, arguments) for arguments in wanted):
            return True
    except InvalidInput:
        return False
    # A translation is written by a model: asking it again would tell nothing.
    return used.name != "translate" and used.outcome(choice.arguments) == (used.outcome(wanted[0])[0], False)


def _row(agent: Agent, question: CallExample) -> dict[str, Any]:
    choice = agent.choose(question.question, repair=False)
    chosen = choice.tool == question.tool
    needed = question.tool != "answer"
    return {
        "question": question.question,
        "expected": question.tool,
        "choice": str(choice),
        "tool": chosen,
        "arguments": chosen and right_arguments(agent.tools[question.tool], question, choice) if needed else None,
        "valid": not choice.problem,
        "cut": choice.cut,
    }


def _alike(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return given.keys() == wanted.keys() and all(_same(given[name], wanted[name]) for name in wanted)


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(given, float) and isinstance(wanted, float):
        return math.isclose(given, wanted)
    return str(given).strip(' .?"').lower() == str(wanted).strip(' .?"').lower()
