"""The warm-up's batches, and that a model learns from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.errors import InvalidInput
from helpers.making import finetuning, training
from helpers.reasoning import warmup
from helpers.reasoning.problems import word_sums
from helpers.reasoning.rewards import worth
from tiny_llama import tiny_llama

PROBLEMS = word_sums("train", count=12)


def test_a_worked_answer_earns_the_whole_reward() -> None:
    assert {worth(warmup.worked(one), one.answer).reward for one in PROBLEMS} == {1.0}


def test_a_prompt_ends_where_the_answer_begins(tokenizer: Any) -> None:
    told = warmup.asked(tokenizer, PROBLEMS[0].question, told=True)
    assert told.endswith("<|im_start|>assistant\n")
    assert warmup.FORM_ASKED in told
    assert warmup.asked(tokenizer, "1 and 1?") == "Sum: 1 and 1?\n"


def test_labels_are_the_answers_and_their_end(tokenizer: Any) -> None:
    batch = warmup.worked_batches(tokenizer, PROBLEMS, rows=5)(2)  # beyond the last problem it starts again
    for row, problem in zip(batch["labels"], [*PROBLEMS[10:], *PROBLEMS[:3]], strict=True):
        assert tokenizer.decode(row[row != -100]) == warmup.worked(problem) + tokenizer.eos_token


def test_padding_is_masked(tokenizer: Any) -> None:
    batch = warmup.worked_batches(tokenizer, PROBLEMS, rows=6)(0)
    first = tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0] == 1])
    assert first == warmup.asked(tokenizer, PROBLEMS[0].question) + warmup.worked(PROBLEMS[0]) + tokenizer.eos_token
    assert set(batch["attention_mask"].sum(dim=1).tolist()) != {batch["input_ids"].shape[1]}


def test_a_few_steps_make_worked_answers_likelier(tokenizer: Any) -> None:
    adapted = finetuning.with_adapter(tiny_llama())
    batches = warmup.worked_batches(tokenizer, PROBLEMS[:4], rows=4)
    rows = training.train(adapted, batches, steps=20, peak=3e-2, loss=finetuning.answer_loss)
    assert rows[-1]["loss"] < 0.95 * rows[0]["loss"]


def test_without_steps_the_model_is_as_it_was(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    base, ids = tiny_llama(), torch.tensor([[5, 6, 7]])
    monkeypatch.setattr(warmup, "UPPER_LAYERS", range(1, 2))
    before = base(ids).logits
    monkeypatch.setattr(finetuning, "base", lambda: (base, tokenizer))
    model, _, rows = warmup.warmed(steps=0)
    assert torch.equal(model(ids).logits, before)
    assert rows == []


def test_no_problems_are_refused(tokenizer: Any) -> None:
    with pytest.raises(InvalidInput, match="no problems"):
        warmup.worked_batches(tokenizer, [])
