"""From logits to the next token, one visible step at a time.

A model gives each token of its vocabulary one number, its *logit*. What follows is arithmetic and takes no model:

    logits → repetition penalty → temperature → top-k → top-p → softmax → probabilities → choice

That is the order of `Sampling`, which every backend of the course keeps. Here it can be looked at; the engines do the
same faster. The two measures at the end say what a setting does to the text: does it repeat, does it vary?
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import InvalidInput
from helpers.records import Sampling

if TYPE_CHECKING:
    import pandas as pd

Numbers: TypeAlias = NDArray[np.float64]


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Numbers:
    """Probabilities that sum to one: exp(logit ÷ temperature), divided by the sum of all of them.

    >>> softmax([2.0, 2.0, float("-inf")]).tolist()
    [0.5, 0.5, 0.0]
    """
    if temperature <= 0:
        raise InvalidInput(f"A temperature of {temperature} has no softmax.", "Greedy decoding is argmax instead.")
    scaled = _numbers(logits) / temperature
    weights = np.exp(scaled - scaled.max())  # exp(700) overflows, exp(0) does not; the ratio is the same
    return np.asarray(weights / weights.sum())


def penalise(logits: ArrayLike, seen: Iterable[int], penalty: float) -> Numbers:
    """Logits in which tokens already seen are less likely (CTRL, Keskar et al. 2019, section 4.1).

    A positive logit is divided by the penalty and a negative one multiplied, so both fall when it is above 1.
    """
    numbers = _numbers(logits).copy()
    ids = sorted(set(seen))
    numbers[ids] = np.where(numbers[ids] > 0, numbers[ids] / penalty, numbers[ids] * penalty)
    return numbers


def top_k(logits: ArrayLike, k: int) -> Numbers:
    """The k highest logits (Fan et al. 2018, section 5.4); the others become −∞. Zero keeps all."""
    numbers = _numbers(logits)
    if k <= 0 or k >= len(numbers):
        return numbers
    return np.where(numbers >= np.partition(numbers, -k)[-k], numbers, -np.inf)


def top_p(logits: ArrayLike, p: float) -> Numbers:
    """The smallest set of tokens whose probabilities reach p (Holtzman et al. 2020, section 3.1); others become −∞."""
    numbers = _numbers(logits)
    if p >= 1:
        return numbers
    likeliest_first = np.argsort(-numbers, kind="stable")
    probabilities = softmax(numbers)[likeliest_first]
    before = np.cumsum(probabilities) - probabilities  # a token stays while those above it have not reached p
    kept = likeliest_first[before < p]
    filtered = np.full_like(numbers, -np.inf)
    filtered[kept] = numbers[kept]
    return filtered


def distribution(logits: ArrayLike, sampling: Sampling, seen: Iterable[int] = ()) -> Numbers:
    """The probability of each next token under these options; `seen` are the ids of prompt and answer so far."""
    numbers = penalise(logits, seen, sampling.repetition_penalty)
    if sampling.temperature == 0:  # greedy: everything on the highest logit
        return np.asarray(np.eye(1, len(numbers), int(numbers.argmax()))[0])
    return softmax(top_p(top_k(numbers / sampling.temperature, sampling.top_k), sampling.top_p))


def choose(probabilities: ArrayLike, random: np.random.Generator) -> int:
    """One token id, drawn with these probabilities: where a random point falls on the line that they divide."""
    edges = np.cumsum(_numbers(probabilities))
    # Rounding can leave the last edge short of one, so the point is drawn below that edge.
    return int(np.searchsorted(edges, random.random() * edges[-1], side="right"))


def candidates(
    logits: ArrayLike,
    decode: Callable[[int], str],
    sampling: Sampling,
    seen: Iterable[int] = (),
    *,
    rows: int = 12,
) -> pd.DataFrame:
    """The likeliest next tokens: id, text, logit, the model's own probability, and that after the filters.

    The tokens are those that the model itself finds likeliest, in its order, so that two settings compare row by row.
    """
    import pandas as pd

    numbers, seen = _numbers(logits), set(seen)
    own, after = softmax(numbers), distribution(numbers, sampling, seen)
    best = np.argsort(-numbers, kind="stable")[:rows]
    return pd.DataFrame(
        {
            "id": best,
            "token": [decode(int(i)) for i in best],
            "logit": numbers[best],
            "model": own[best],
            "after": after[best],
            "seen": [int(i) in seen for i in best],
        }
    )


def entropy_bits(probabilities: ArrayLike) -> float:
    """How open the choice is: −Σ p log₂ p (Shannon 1948, section 6). Two equal options have one bit.

    >>> entropy_bits([0.5, 0.5, 0.0])
    1.0
    """
    kept = _numbers(probabilities)
    kept = kept[kept > 0]
    return float(-(kept * np.log2(kept)).sum()) + 0.0  # + 0.0 turns −0.0 into 0.0


def distinct_n(texts: Sequence[str], n: int = 2) -> float | None:
    """Diversity of several answers: different n-grams ÷ all n-grams (after distinct-n of Li et al. 2016, section 5).

    1 means that no run of n words comes twice in them all. Longer texts repeat more, so compare equal lengths only.
    None where no text has n words.

    >>> distinct_n(["a cat sat", "a cat ran"], 2)
    0.75
    """
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(text: str, n: int = 3) -> float | None:
    """Repetition in one answer: the share of n-grams that came before (seq-rep-n of Welleck et al. 2020, section 6).

    >>> repetition("on and on and on and on", 2)
    0.6666666666666667
    """
    different = distinct_n([text], n)
    return None if different is None else 1 - different


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """The runs of n neighbouring words, in lower case; a character of a language without spaces is a word."""
    words = re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+", text.lower())
    return list(zip(*(words[start:] for start in range(n)), strict=False))


def _numbers(values: Any) -> Numbers:
    """One row of finite or −∞ numbers; a torch tensor of any precision is welcome."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers) or np.isnan(numbers).any():
        raise InvalidInput(
            f"One row of numbers is needed, one for each token of the vocabulary, not the shape {numbers.shape}.",
            "Take the last position of one text: model(ids).logits[0, -1].",
        )
    return numbers
