"""What an agent did, step by step, as values that can be read in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Ending = Literal["answered", "repeated", "out of steps", "out of time"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model chose. `problem` says in a sentence why that cannot be called; `repaired` that it was asked twice.

    `written` is what the model wrote first, `tool` is None where that held no call.
    """

    tool: str | None
    arguments: Mapping[str, Any]
    written: str
    problem: str = ""
    repaired: bool = False

    def __str__(self) -> str:
        if self.tool is None:
            return "no call"
        return f"{self.tool}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the loop: what was chosen, what came of it. `failed` means that the result says what went wrong."""

    choice: Choice
    result: str
    failed: bool
    seconds: float

    def __str__(self) -> str:
        return f"{self.choice} → {'✗ ' if self.failed else ''}{self.result}"


@dataclass(frozen=True, slots=True)
class Run:
    """All that an agent did with one question. `answer` is the model's own or, if none came, a sentence why."""

    question: str
    steps: tuple[Step, ...]
    answer: str
    ending: Ending

    def __repr__(self) -> str:
        lines = [f"  {number}  {step}" for number, step in enumerate(self.steps, start=1)]
        return "\n".join([self.question, *lines, f"  {self.ending}: {self.answer}"])

    def table(self) -> pd.DataFrame:
        """One row for each step."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"tool": step.choice.tool, "arguments": dict(step.choice.arguments), "result": step.result}
                | {"failed": step.failed, "repaired": step.choice.repaired, "seconds": step.seconds}
                for step in self.steps
            ]
        )
