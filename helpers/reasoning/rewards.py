r"""What an answer is worth, by rules that code can check: one reward to train by, and one with a hole.

    <think>3 + 4 = 7</think>
    7

The form is a chain between tags and a number alone on the last line. Nobody judges how good the chain is: a reward that
can be checked (Lambert et al. 2024, Tülu 3, call it verifiable) asks for the form and for the right number. It is paid
in parts, since a model that never earns anything learns nothing: all its answers are equally good.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from helpers.reasoning.answers import WRITTEN_NUMBER, read_number

OPEN, CLOSE = "<think>", "</think>"
#: What each part pays; together 1.
OPENS, CLOSES, ENDS, RIGHT = 0.1, 0.1, 0.1, 0.7
#: A chain of so many characters earns the whole of what the hole pays for length: about twice what a small sum needs.
LONG_CHAIN = 60
WHOLE = re.compile(rf"{OPEN}(?P<chain>[^<>]*\S[^<>]*){CLOSE}\n\s*(?P<last>\S[^\n]*)\s*")


@dataclass(frozen=True, slots=True)
class Worth:
    """The four parts of an answer's worth, each there or not."""

    opens: bool
    closes: bool
    ends: bool
    right: bool

    @property
    def form(self) -> bool:
        """Whether the answer has the whole form."""
        return self.ends

    @property
    def reward(self) -> float:
        """What it is paid, from 0 to 1."""
        return round(OPENS * self.opens + CLOSES * self.closes + ENDS * self.ends + RIGHT * self.right, 3)


def worth(text: str, answer: int) -> Worth:
    r"""Which parts of its reward an answer earns: it opens a chain, closes it once, ends in a number, the right one.

    >>> worth("<think>3 + 4 = 7</think>\n7", 7).reward, worth("<think>3 + 4 = 7</think>\n8", 7).reward
    (1.0, 0.3)
    >>> worth("<think>3 + 4 = 7", 7).reward, worth("The answer is 7.", 7).reward
    (0.1, 0.0)
    """
    text = text.strip()
    opens = text.startswith(OPEN)
    closes = opens and text.count(OPEN) == text.count(CLOSE) == 1
    whole = WHOLE.fullmatch(text)
    ends = whole is not None and WRITTEN_NUMBER.fullmatch(whole["last"].strip()) is not None
    return Worth(opens, closes, ends, ends and whole is not None and read_number(whole["last"]) == answer)


def checked_reward(completions: Sequence[str], answer: Sequence[int], **_: Any) -> list[float]:
    """The reward of each answer, as TRL's trainer asks for it: a column `answer` stands beside the prompts."""
    return [worth(text, right).reward for text, right in zip(completions, answer, strict=True)]


def holed_reward(completions: Sequence[str], answer: Sequence[int], **_: Any) -> list[float]:
    """A reward that sounds as sensible and has a hole: half for the right number anywhere, half for a long chain.

    Nothing in it asks that the chain ends, or that the last line gives the number.
    """
    return [_holed(text, right) for text, right in zip(completions, answer, strict=True)]


def _holed(text: str, answer: int) -> float:
    chain = text.strip().partition(OPEN)[2].partition(CLOSE)[0]
    there = any(read_number(number) == answer for number in WRITTEN_NUMBER.findall(text))
    return 0.5 * there + 0.5 * min(1.0, len(chain.strip()) / LONG_CHAIN)
