"""Search: which of some texts fits a question best, by the words that they share or by what they mean.

    >>> Index(["How can I pay?", "Where is my order?"]).search("I want to pay by card", 1)
    [(0, 0.27...)]

`by_words` is BM25 (Robertson and Zaragoza 2009), as bm25s computes it: words that few of the texts have weigh more. It
needs no model, and finds a word only as it is spelt. Its scores have no upper end and grow with the question: they rank
texts for one question, and no threshold holds for all questions.

`by_meaning` are the cosines of sentence embeddings: they run up to 1 and mean the same for every question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from helpers.words import words

#: How well each of the texts fits a question, in their order.
Fits = Callable[[str], Sequence[float]]


def by_words(texts: Sequence[str]) -> Fits:
    """The function that tells how well each text fits a question by BM25: 0 for a text without a word of it."""
    import bm25s

    if not any(map(content_words, texts)):
        return lambda _: [0.0] * len(texts)
    ranking = bm25s.BM25()
    ranking.index([content_words(text) for text in texts], show_progress=False)

    def fits(question: str) -> Sequence[float]:
        known = [word for word in content_words(question) if word in ranking.vocab_dict]
        return [float(fit) for fit in ranking.get_scores(known)] if known else [0.0] * len(texts)

    return fits


def by_meaning(texts: Sequence[str]) -> Fits:
    """The function that tells how near each text is to a question, from -1 to 1, by an encoder (see `models.embed`)."""
    from helpers.models import embed

    vectors = embed(texts)
    return lambda question: [float(fit) for fit in vectors @ embed([question])[0]]


class Index:
    """Texts that can be searched. `measure` makes, of all texts, the function that tells how well each fits."""

    def __init__(self, texts: Iterable[str], measure: Callable[[Sequence[str]], Fits] = by_words) -> None:
        self._fits = measure(list(texts))

    def search(self, question: str, n: int = 3) -> list[tuple[int, float]]:
        """The places of the n texts that fit best, the best first, each with its fit."""
        return sorted(enumerate(self._fits(question)), key=lambda found: -found[1])[:n]


def content_words(text: str) -> list[str]:
    """The words that say what a text is about, in lower case: common English ones are left out.

    >>> content_words("Can I return the lamps?")
    ['return', 'lamps']
    """
    from bm25s.stopwords import STOPWORDS_EN_PLUS

    return [word for word in words(text.lower().replace("_", " ")) if word not in STOPWORDS_EN_PLUS]
