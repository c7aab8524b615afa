"""The steps of decoding agree with their definitions, and with transformers' own."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.errors import InvalidInput
from helpers.instruct import decoding
from helpers.records import Sampling

LOGITS = np.random.default_rng(0).normal(0, 3, 200)
SEEN = [3, 5, 8, 8]


def test_probabilities_sum_to_one_and_keep_the_order():
    probabilities = decoding.softmax(LOGITS)
    assert probabilities.sum() == pytest.approx(1)
    assert (np.argsort(probabilities) == np.argsort(LOGITS)).all()
    assert decoding.softmax([1e5, 1e5 - 1]).tolist() == pytest.approx([0.731, 0.269], abs=1e-3)  # no overflow


def test_a_low_temperature_sharpens_and_a_high_one_flattens():
    bits = [decoding.entropy_bits(decoding.softmax(LOGITS, t)) for t in (0.3, 1, 3)]
    assert bits == sorted(bits)


def test_top_k_keeps_k():
    for k in (1, 5, 199, 200, 0):
        assert np.isfinite(decoding.top_k(LOGITS, k)).sum() == (k or 200)


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    probabilities = decoding.softmax(LOGITS)
    for p in (0.01, 0.3, 0.9, 1.0):
        kept = probabilities[np.isfinite(decoding.top_p(LOGITS, p))]
        assert kept.sum() >= p - 1e-9
        assert kept.sum() - kept.min() < p


def test_the_penalty_lowers_only_what_was_seen():
    change = decoding.penalise(LOGITS, SEEN, 1.3) - LOGITS
    assert (change[sorted(set(SEEN))] < 0).all()
    assert np.delete(change, SEEN).tolist() == [0] * 197


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.3),
        Sampling(temperature=1.5, top_p=0.5),
        Sampling(temperature=1.0, top_k=3),
    ],
)
def test_the_distribution_is_that_of_transformers(sampling):
    import torch
    from transformers import generation as g

    scores = torch.from_numpy(LOGITS)[None]
    scores = g.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(torch.tensor([SEEN]), scores)
    scores = g.TemperatureLogitsWarper(sampling.temperature)(None, scores)
    scores = g.TopKLogitsWarper(sampling.top_k or 200)(None, scores)
    theirs = g.TopPLogitsWarper(sampling.top_p)(None, scores)[0].softmax(-1)
    assert decoding.distribution(LOGITS, sampling, SEEN).tolist() == pytest.approx(theirs.tolist())


def test_greedy_puts_everything_on_the_highest_logit():
    probabilities = decoding.distribution(LOGITS, Sampling())
    assert probabilities.argmax() == LOGITS.argmax()
    assert decoding.entropy_bits(probabilities) == 0


def test_a_choice_follows_the_probabilities():
    random = np.random.default_rng(1)
    drawn = [decoding.draw_token([0.2, 0.0, 0.8], random) for _ in range(2000)]
    assert 1 not in drawn
    assert drawn.count(2) / 2000 == pytest.approx(0.8, abs=0.04)


def test_draws_repeat_with_their_seed():
    assert decoding.draw([0.5] * 9, 20, seed=1) == decoding.draw([0.5] * 9, 20, seed=1)
    assert decoding.draw([0.5] * 9, 20, seed=1) != decoding.draw([0.5] * 9, 20, seed=2)


def test_a_choice_stays_inside_the_vocabulary_at_the_very_end():
    class Last:
        random = staticmethod(lambda: np.nextafter(1, 0))

    assert decoding.draw_token([0.1] * 10, Last()) == 9


def test_the_table_compares_the_model_with_what_the_filters_leave():
    table = decoding.candidates(LOGITS, str, Sampling(temperature=1.0, top_k=2), SEEN, rows=5)
    assert table["token"].tolist() == [str(i) for i in np.argsort(-LOGITS)[:5]]
    assert table["after"].gt(0).tolist() == [True, True, False, False, False]
    assert table["seen"].tolist() == [i in SEEN for i in table["id"]]


def test_a_tensor_of_half_precision_is_welcome():
    import torch

    assert decoding.softmax(torch.zeros(4, dtype=torch.bfloat16)).tolist() == [0.25] * 4


def test_what_is_not_one_row_of_numbers_is_refused():
    for wrong in ([], [[1.0, 2.0]], [float("nan")]):
        with pytest.raises(InvalidInput, match="One row of numbers"):
            decoding.softmax(wrong)
    with pytest.raises(InvalidInput, match="argmax"):
        decoding.softmax(LOGITS, 0)


def test_diversity_counts_over_all_answers_and_repetition_within_one():
    assert decoding.distinct_n(["the cat sat", "the cat sat"], 1) == 0.5
    assert decoding.distinct_n(["one two three"], 2) == 1
    assert decoding.repetition("no no no no", 1) == 0.75
    assert decoding.repetition("all words differ here", 1) == 0
    assert decoding.distinct_n(["one"], 2) is decoding.repetition("", 3) is None  # too short


def test_chinese_characters_count_one_by_one():
    assert decoding.ngrams("你好 world", 2) == [("你", "好"), ("好", "world")]


def test_the_hand_made_step_chooses_what_the_engine_chooses(reference):
    import torch

    from helpers.records import Prompt, Turn

    ids = reference.encode([Turn("user", "What is the capital of Sweden?")]).tokens
    with torch.inference_mode():
        logits = reference.model(torch.tensor([ids], device=reference.model.device)).logits[0, -1]
    token = decoding.distribution(logits, Sampling()).argmax()
    first = next(reference.generate(Prompt((), ids), Sampling(max_new_tokens=1)))
    assert reference.tokenizer.decode([token]) == first.text
