"""How near a text comes to a reference: ROUGE for summaries, chrF for translations, and the interval of a mean.

Both measures compare surfaces. A good answer in other words scores low, and a wrong one that shares many words scores
high: they rank systems over many texts, and say little of one text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from helpers.errors import InvalidInput

#: Resamples of the bootstrap: the ends of its interval then move by less than a tenth of its width between seeds.
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over items with its 95 % interval, the percentile bootstrap (Efron 1979, Annals of Statistics 7:1-26).

    >>> print(Mean.of([10, 20, 30, 40]))
    25.0 (95 % interval 15.0 to 35.0, 4 items)
    """

    value: float
    low: float
    high: float
    items: int

    @classmethod
    def of(cls, values: Sequence[float], seed: int = 0) -> Mean:
        """The mean of at least one value; items are drawn again with replacement to see how far it would move."""
        numbers = np.asarray(values, dtype=float)
        if not numbers.size:
            raise InvalidInput("A mean of no values does not exist.", "Give at least one.")
        drawn = np.random.default_rng(seed).integers(0, numbers.size, (RESAMPLES, numbers.size))
        low, high = np.quantile(numbers[drawn].mean(axis=1), (0.025, 0.975))
        return cls(float(numbers.mean()), float(low), float(high), int(numbers.size))

    def __str__(self) -> str:
        return f"{self.value:.1f} (95 % interval {self.low:.1f} to {self.high:.1f}, {self.items} items)"


# ROUGE is written out here because its usual package is a source archive of 2022, and the well-kept ones bring a
# natural-language toolkit along for these two definitions. The scores equal rouge-score 0.1.2 without its stemmer.
def rouge_1(text: str, references: Sequence[str]) -> float:
    """ROUGE-1: F1 of the words that text and reference share, 0 to 100, for the best reference (Lin 2004, section 2).

    >>> round(rouge_1("the cat sat on a mat", ["The cat was on the mat."]), 1)
    66.7
    """
    words = _words(text)
    return _best(references, lambda reference: sum((Counter(words) & Counter(reference)).values()), words)


def rouge_l(text: str, references: Sequence[str]) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words, 0 to 100, for the best reference (Lin 2004, section 3.1).

    >>> rouge_l("on the mat the cat", ["the cat on the mat"])
    60.0
    """
    words = _words(text)
    return _best(references, lambda reference: _longest_common_subsequence(words, reference), words)


def chrf(text: str, references: Sequence[str]) -> float:
    """chrF2 of one text, 0 to 100, by sacrebleu: the F-score of its character 1- to 6-grams (Popović 2015, W15-3049).

    Characters need no tokenizer, so the measure works for Chinese as for Swedish.
    """
    return float(_chrf().sentence_score(text, list(references)).score)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _best(references: Sequence[str], shared: Any, words: list[str]) -> float:
    """The highest F1 over the references: 2 × shared ÷ (length of the text + length of the reference)."""
    if not references:
        raise InvalidInput("There is no reference to compare with.", "Give at least one.")
    split = [_words(reference) for reference in references]
    return max(100 * 2 * shared(reference) / max(1, len(words) + len(reference)) for reference in split)


def _longest_common_subsequence(one: list[str], two: list[str]) -> int:
    """How many words both hold in the same order, not necessarily next to each other."""
    row = [0] * (len(two) + 1)
    for word in one:
        above = row
        row = [0]
        for place, other in enumerate(two, start=1):
            row.append(above[place - 1] + 1 if word == other else max(row[-1], above[place]))
    return row[-1]
