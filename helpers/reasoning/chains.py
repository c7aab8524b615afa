"""What stands in a chain of steps, counted by code: its sums, those that are wrong, and numbers from nowhere.

A chain reads like the way to its answer. Whether it is can be looked at: an answer may be right above a wrong sum,
every sum may be right and the answer wrong, and a number of the question may change on the way (Turpin et al. 2023 and
Lanham et al. 2023 find the same of large models). What code does not see are wrong words around right sums.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from helpers.errors import InvalidInput
from helpers.reasoning.answers import WRITTEN_NUMBER
from helpers.reasoning.programs import value
from helpers.reasoning.rewards import CLOSE, OPEN

_NUMBER = r"\(*\s*-?\d+(?:\.\d+)?\s*\)*"
#: Numbers with signs or equals signs between them, such as "3 * 4 + 5 = 12 + 5 = 17".
STRETCH = re.compile(rf"{_NUMBER}(?:\s*[-+*/=]\s*{_NUMBER})+")
#: How signs are written, and what is taken out before: units, currency, LaTeX.
PLAIN = {
    "\\(": " ",
    "\\)": " ",
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
    "\\times": "*",
    "\\div": "/",
    "\\cdot": "*",
    "[": "(",
    "]": ")",
}
NOISE = re.compile(r"(?<=\d),(?=\d{3})|[€$£\\{}]|\b[A-Za-z]+\b")
#: Of one sum: within half of the last digit that a chain usually writes.
NEAR = Fraction(1, 200)


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """A chain's sums with an equals sign, those that come to something else, and its `unexplained` numbers.

    A number is explained where the question has it or something before it came to it; 1, 2 and 100 count as known.
    """

    sums: int
    wrong: tuple[str, ...]
    unexplained: tuple[str, ...]


def split_chain(text: str) -> tuple[str, str]:
    """The chain and the solution of an answer that parts them by tags, as the Phi-4 reasoning models write it.

    Some templates open the tag in the prompt, so that the answer only closes it. A chain that the limit cut off has no
    solution; an answer without tags has no chain.

    >>> split_chain("<think>3 * 4 = 12</think> It costs 12 euros.")
    ('3 * 4 = 12', 'It costs 12 euros.')
    """
    before, closed, after = text.partition(CLOSE)
    _, opened, chain = before.rpartition(OPEN)
    if not (opened or closed):
        return "", text.strip()
    return (chain if opened else before).strip(), after.strip()


def check_chain(question: str, chain: str) -> ChainCheck:
    """Reads every sum of a chain that has only numbers in it."""
    known = {_number(text) for text in WRITTEN_NUMBER.findall(question)} | {Fraction(1), Fraction(2), Fraction(100)}
    count, wrong, unexplained = 0, [], []
    for parts in _equalities(chain):
        values = [found for _, found in parts]
        sums = [text for text, _ in parts if re.search(r"\d\s*[-+*/]", text)]
        if sums:
            unexplained += [text for text in WRITTEN_NUMBER.findall(parts[0][0]) if _number(text) not in known]
        known |= {*values, *(value(inner) for text, _ in parts for inner in re.findall(r"\(([^()]+)\)", text))}
        if len(parts) > 1 and sums:
            count += 1
            if max(values) - min(values) > NEAR:
                wrong.append(" = ".join(text for text, _ in parts))
    return ChainCheck(count, tuple(wrong), tuple(dict.fromkeys(unexplained)))


def _equalities(chain: str) -> Iterator[list[tuple[str, Fraction]]]:
    """Each stretch of a line as the texts between its equals signs, with what each comes to."""
    for line in chain.splitlines():
        for stretch in STRETCH.findall(_plain(line)):
            try:
                yield [(text.strip(), value(text)) for text in stretch.split("=") if text.strip()]
            except InvalidInput:
                continue


def kind_of(found: ChainCheck, right: bool) -> str:
    """Answer and chain in words: what code saw in the chain, the worst of it, above a right or a wrong answer."""
    if not found.sums:
        seen = "no sum to check"
    elif found.wrong:
        seen = "a wrong sum"
    elif found.unexplained:
        seen = "a number from nowhere"
    else:
        seen = "every sum right"
    return f"{'right' if right else 'wrong'} answer, {seen}"


def _plain(text: str) -> str:
    for written, meant in PLAIN.items():
        text = text.replace(written, meant)
    return NOISE.sub("", text)


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))
