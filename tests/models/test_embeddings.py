"""Vectors of texts, held against the similarities that sentence-transformers publishes for this model."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import models
from helpers.errors import InvalidInput
from helpers.models import sources
from helpers.models.embeddings import ENCODER

pytestmark = pytest.mark.engine

#: sbert.net/docs/sentence_transformer/usage/usage.html, printed there to four places.
WEATHER = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
PUBLISHED = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
#: sbert.net/docs/sentence_transformer/usage/semantic_textual_similarity.html, as above.
LEFT = ["The new movie is awesome", "The cat sits outside", "A man is playing guitar"]
RIGHT = ["The dog plays in the garden", "The new movie is so great", "A woman watches TV"]
PUBLISHED_PAIRS = [[0.0543, 0.8939, -0.0502], [0.2838, -0.0029, 0.1310], [0.2277, -0.0136, -0.0327]]


@pytest.fixture(autouse=True)
def _encoder_is_here() -> None:
    if sources.state(ENCODER) != "ready":
        pytest.skip(f"the encoder is not here: python3 course.py fetch {ENCODER}")


def test_the_published_similarities_come_out() -> None:
    vectors = models.embed(WEATHER)
    assert np.abs(vectors @ vectors.T - PUBLISHED).max() < 1e-4


def test_those_of_two_lists_come_out_too() -> None:
    assert np.abs(models.embed(LEFT) @ models.embed(RIGHT).T - PUBLISHED_PAIRS).max() < 1e-4


def test_a_row_is_a_unit_vector_of_384_numbers() -> None:
    vectors = models.embed(["word", "", "Ein Satz.", "数 🙂"])
    assert vectors.shape == (4, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)


def test_a_text_is_nearest_to_its_paraphrase() -> None:
    question = models.embed(["How do I get my money back?"])
    answers = ["We refund within 14 days.", "We are open from nine to five.", "The parcel takes three days."]
    assert np.argmax(question @ models.embed(answers).T) == 0


def test_rows_stand_in_the_order_of_the_texts_whatever_the_batch() -> None:
    texts = [*WEATHER, *RIGHT, "x", "A much longer sentence that would be sorted to the end of any batch."]
    assert np.abs(models.embed(texts, batch=2) - models.embed(texts, batch=8)).max() < 1e-5


def test_tokens_beyond_the_limit_do_not_count_and_those_before_it_do() -> None:
    # One token a word, and two that frame the text; the tokenizer's own file would cut at 128.
    exactly, longer, shorter = (models.embed(["cat " * 200 + "dog " * count])[0] for count in (54, 300, 0))
    assert exactly @ longer == pytest.approx(1, abs=1e-5)
    assert exactly @ shorter < 0.999


def test_no_texts_are_no_rows() -> None:
    assert models.embed([]).shape == (0, 384)


def test_one_text_alone_is_refused_with_what_to_write() -> None:
    with pytest.raises(InvalidInput, match=r"embed\(\[text\]\)"):
        models.embed("a text")
