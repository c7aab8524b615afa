"""The number that an answer in words gives, and what several answers give together.

A chain ends where its writer says so: on a line that begins with "Answer:". Reading the last number of whatever was
written would count "3 + 5 = 8" as an answer where the text was cut off. In doubt, nothing is read: `None`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from helpers.errors import InvalidInput

#: A number with or without thousands' commas and decimals; a comma between single digits separates two numbers.
WRITTEN_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w]|\.\d)")
#: What ends a chain: "Answer: 12", "**Final answer:** 12 euros", "The answer is 12."
SAID = re.compile(r"answer\s*(?:is\b|[:=])[:*\s]*", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


def read_number(answer: str) -> Fraction | None:
    r"""The number of the last "Answer: …" or box; where there is none, the text's only number; None in doubt.

    >>> read_number("3 pens cost 6 euros. 20 - 6 = 14.\nAnswer: 14 euros")
    Fraction(14, 1)
    >>> read_number("3 pens cost 6 euros.")
    """
    boxes, said = BOXED.findall(answer), list(SAID.finditer(answer))
    if boxes:
        return _only(boxes[-1])
    if said:
        rest = answer[said[-1].end() :].split("\n")[0]
        # "Answer: 20 - 6 = 14" gives what stands after the last sign of equality.
        return _only(rest.rsplit("=", 1)[-1])
    return _only(answer)


def _only(text: str) -> Fraction | None:
    """The number of a text in which one number stands, once or several times."""
    found = {Fraction(number.replace(",", "")) for number in WRITTEN_NUMBER.findall(text)}
    return found.pop() if len(found) == 1 else None


def majority(votes: Sequence[Fraction | None]) -> Fraction | None:
    """What most votes say, of those that say anything; the earliest of equals; None where none does.

    Self-consistency (Wang et al. 2022, section 2): chains differ, right ones meet in the same number.
    """
    counts = Counter(vote for vote in votes if vote is not None)
    return max(counts, key=counts.__getitem__) if counts else None


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that of `k` answers drawn from these `samples` at least one is right, without bias.

    1 − C(n − c, k) / C(n, k) (Chen et al. 2021, section 2.1). `1 − (1 − c / n) ** k` is too small: it draws an answer
    twice.
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise InvalidInput(f"pass@{k} of {samples} samples with {right} right is impossible.", "1 ≤ k ≤ samples.")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)
