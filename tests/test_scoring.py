"""Scores against the plain computation, one text and one token at a time, on a tiny random model."""

from __future__ import annotations

from math import exp

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from helpers import scoring
from helpers.errors import ContextOverflow, InvalidInput
from helpers.intervals import Rate

TEXT = "the cat sat on the mat and the dog sat on the cat " * 6


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Words of one or two pieces: "sat" is one token, while "sa" and "t" are others, so that a token can straddle."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    merges = [("s", "a"), ("sa", "t"), ("t", "h"), ("th", "e"), (" ", "the"), (" ", "sat"), ("a", "t")]
    pieces = ["<s>", " ", *letters, *("".join(pair) for pair in merges)]
    built = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    built.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>")


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=96, **shape)
    return LlamaForCausalLM(config).eval()


def naive(model: LlamaForCausalLM, ids: list[int], first: int) -> float:
    """The sum of the log-probabilities of ids[first:], each read off its own forward pass."""
    with torch.no_grad():
        steps = [
            model(torch.tensor([ids[:at]])).logits[0, -1].log_softmax(-1)[ids[at]] for at in range(first, len(ids))
        ]
    return float(sum(steps))


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_log_likelihood_is_the_naive_sum(model, tokenizer):
    endings = [" sat on the mat", " ran", " the", " sat the dog on the cat in the hat"]
    scored = scoring.log_likelihood(model, tokenizer, "the cat", endings)
    first = len(encode(tokenizer, "the cat"))
    for ending, score in zip(endings, scored, strict=True):
        ids = encode(tokenizer, "the cat" + ending)
        assert score.tokens == len(ids) - first
        assert score.logprob == pytest.approx(naive(model, ids, first), abs=1e-4)


def test_a_batch_larger_than_one_keeps_its_order(model, tokenizer):
    endings = [" " + "ab" * (1 + index * 7 % 13) for index in range(2 * scoring.BATCH + 3)]
    batched = scoring.log_likelihood(model, tokenizer, "the", endings)
    alone = [scoring.log_likelihood(model, tokenizer, "the", [ending])[0] for ending in endings]
    assert [score.tokens for score in batched] == [score.tokens for score in alone]
    assert [score.logprob for score in batched] == pytest.approx([score.logprob for score in alone], abs=1e-4)


def test_a_token_that_straddles_the_prompts_end_is_scored_whole(model, tokenizer):
    assert encode(tokenizer, "sat") != encode(tokenizer, "sa") + encode(tokenizer, "t")
    scored = scoring.log_likelihood(model, tokenizer, "the sa", ["t", "y"])
    shared = len(encode(tokenizer, "the"))
    for ending, score in zip("ty", scored, strict=True):
        assert score.logprob == pytest.approx(naive(model, encode(tokenizer, "the sa" + ending), shared), abs=1e-4)


def test_an_empty_prompt_starts_from_the_start_token(model, tokenizer):
    score = scoring.log_likelihood(model, tokenizer, "", ["the cat"])[0]
    ids = [tokenizer.bos_token_id, *encode(tokenizer, "the cat")]
    assert score.logprob == pytest.approx(naive(model, ids, 1), abs=1e-4)


@pytest.mark.parametrize(
    ("continuations", "message"), [([], "nothing to score"), (["a", ""], "empty continuation"), ("text", "nothing")]
)
def test_what_cannot_be_scored_is_refused(model, tokenizer, continuations, message):
    with pytest.raises(InvalidInput, match=message):
        scoring.log_likelihood(model, tokenizer, "the", continuations)


def test_a_text_longer_than_the_context_is_refused_with_both_numbers(model, tokenizer):
    with pytest.raises(ContextOverflow, match=r"has \d+ tokens.*holds 96"):
        scoring.log_likelihood(model, tokenizer, TEXT, [" end"])


def items(answer: int = 0) -> list[dict[str, object]]:
    options = ["on the mat", "on a very long list"]
    return [{"field": "f", "question": "where sat the cat", "options": options, "answer": answer}]


@pytest.mark.parametrize(("normalise", "length"), [("none", lambda o, s: 1), ("characters", lambda o, s: len(o))])
def test_the_likeliest_option_is_chosen(model, tokenizer, normalise, length):
    item = items()[0]
    prompt = scoring.QUESTION.format(question=item["question"])
    scored = scoring.log_likelihood(model, tokenizer, prompt, [" " + option for option in item["options"]])
    values = [s.logprob / length(o, s) for s, o in zip(scored, item["options"], strict=True)]
    row = scoring.multiple_choice(model, tokenizer, [item], normalise).iloc[0]
    assert row["chosen"] == item["options"][values.index(max(values))]
    assert row["margin"] == pytest.approx(max(values) - min(values), abs=1e-5)


def test_exactly_one_of_two_answers_is_right(model, tokenizer):
    rows = scoring.multiple_choice(model, tokenizer, items(0) + items(1), "tokens")
    assert rows["correct"].sum() == 1
    assert scoring.accuracy(rows) == Rate(1, 2)
    assert list(rows.columns) == ["field", "question", "chosen", "correct", "margin"]


def test_without_the_question_the_options_alone_are_scored(model, tokenizer):
    asked = [items(0)[0] | {"question": question} for question in ("the cat", "the dog sat on the mat")]
    blind = scoring.multiple_choice(model, tokenizer, asked, form=scoring.NO_QUESTION)
    assert blind["margin"].nunique() == 1
    assert scoring.multiple_choice(model, tokenizer, asked)["margin"].nunique() == 2


@pytest.mark.parametrize(
    ("given", "normalise", "message"),
    [([], "none", "no questions"), (items(7), "none", "index of one"), (items(), "loudness", "no normalisation")],
)
def test_wrong_items_are_refused(model, tokenizer, given, normalise, message):
    with pytest.raises(InvalidInput, match=message):
        scoring.multiple_choice(model, tokenizer, given, normalise)


def test_perplexity_is_the_exponential_of_the_mean_surprise(model, tokenizer):
    ids = encode(tokenizer, TEXT[:60])
    expected = exp(-naive(model, ids, 1) / (len(ids) - 1))
    assert scoring.perplexity(model, tokenizer, TEXT[:60]) == pytest.approx(expected, rel=1e-4)


def test_perplexity_of_a_long_text_reads_it_in_windows(model, tokenizer):
    ids, window, stride = encode(tokenizer, TEXT), 20, 5
    assert len(ids) > 96
    total, done = 0.0, 1
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        if end > done:
            total, done = total + naive(model, ids[begin:end], done - begin), end
    got = scoring.perplexity(model, tokenizer, TEXT, window=window, stride=stride)
    assert got == pytest.approx(exp(-total / (len(ids) - 1)), rel=1e-4)


def test_a_model_without_knowledge_hesitates_among_all_tokens(tokenizer):
    blank = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    )
    torch.nn.init.zeros_(blank.lm_head.weight)
    assert scoring.perplexity(blank, tokenizer, TEXT) == pytest.approx(len(tokenizer), rel=1e-4)


@pytest.mark.parametrize(
    ("text", "options", "message"), [("a", {}, "two tokens"), (TEXT, {"stride": 99}, "cannot move")]
)
def test_perplexity_refuses_what_has_none(model, tokenizer, text, options, message):
    with pytest.raises(InvalidInput, match=message):
        scoring.perplexity(model, tokenizer, text, **options)


def test_paired_preference_is_the_difference_of_two_sentences(model, tokenizer):
    pair = {"category": "c", "more_stereotypical": "the cat sat", "less_stereotypical": "the dog sat on"}
    swapped = pair | dict(zip(list(pair)[1:], list(pair.values())[:0:-1], strict=True))
    row, back = scoring.paired_preference(model, tokenizer, [pair, swapped], context="and").iloc
    assert row["difference"] == pytest.approx(-back["difference"], abs=1e-5)
    more, less = (
        naive(model, encode(tokenizer, "and" + pair[f"{kind}_stereotypical"]), 3) for kind in ("more", "less")
    )
    assert row["difference"] == pytest.approx(more - less, abs=1e-4)
    assert row["prefers_stereotype"] == (more > less)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [([], "no pairs"), ([{"more_stereotypical": "a", "less_stereotypical": "a"}], "Both sentences")],
)
def test_pairs_that_compare_nothing_are_refused(model, tokenizer, pairs, message):
    with pytest.raises(InvalidInput, match=message):
        scoring.paired_preference(model, tokenizer, pairs)
