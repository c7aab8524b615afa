"""What stands in a chain of steps, counted by code: its sums, those that are wrong, and numbers from nowhere.

A chain reads like the way to its answer. Whether it is can be looked at: an answer may be right above a wrong sum,
every sum may be right and the answer wrong, and a number of the question may change on the way (Turpin et al. 2023 and
Lanham et al. 2023 find the same of large models). What code does not see are wrong words around right sums.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from helpers.errors import InvalidInput
from helpers.reasoning.answers import WRITTEN_NUMBER
from helpers.reasoning.programs import value

#: A sum and what it is said to come to, as "3 * 4 + 5 = 17"; units, currency and LaTeX are taken out before.
SUM = re.compile(r"([-(]?\d[\d.\s()+*/-]*[+*/-][\d.\s()+*/-]*\d\)?)\s*=\s*(-?\d+(?:\.\d+)?)")
PLAIN = {"×": "*", "·": "*", "÷": "/", "−": "-", "\\times": "*", "\\div": "/", "\\cdot": "*", "[": "(", "]": ")"}
NOISE = re.compile(r"(?<=\d),(?=\d{3})|[€$£\\{}]|\b[A-Za-z]+\b")
#: Of one sum: within half of the last digit that a chain usually writes.
NEAR = Fraction(1, 200)


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """A chain's sums with an equals sign, those that come to something else, and its `unexplained` numbers.

    A number is explained where the question has it or a sum before it came to it; 1 and 2 and 100 count as known.
    """

    sums: int
    wrong: tuple[str, ...]
    unexplained: tuple[str, ...]


def check_chain(question: str, chain: str) -> ChainCheck:
    """Reads every sum of a chain that has only numbers in it."""
    known = {_number(text) for text in WRITTEN_NUMBER.findall(question)} | {Fraction(1), Fraction(2), Fraction(100)}
    count, wrong, unexplained = 0, [], []
    for left, right in SUM.findall(_plain(chain)):
        try:
            found = value(left)
        except InvalidInput:
            continue
        count += 1
        unexplained += [text for text in WRITTEN_NUMBER.findall(left) if _number(text) not in known]
        if abs(found - Fraction(right)) > NEAR:
            wrong.append(f"{left.strip()} = {right}")
        known |= {found, Fraction(right)}
    return ChainCheck(count, tuple(wrong), tuple(dict.fromkeys(unexplained)))


def _plain(text: str) -> str:
    for written, meant in PLAIN.items():
        text = text.replace(written, meant)
    return NOISE.sub("", text)


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))
