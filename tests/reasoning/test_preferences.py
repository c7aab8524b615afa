"""Pairs of a short and a long answer, DPO's trainer on a tiny model, and what is measured on the way."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from helpers.errors import InvalidInput
from helpers.making import finetuning
from helpers.reasoning import preferences, trainers
from tiny_llama import tiny_llama


@pytest.fixture
def talker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer has two whole sentences and a third that was cut off."""
    text = "It is a thing. It was made long ago! People use it to"
    monkeypatch.setattr(preferences, "batched_texts", lambda _, __, prompts, **___: [(text, 64)] * len(prompts))


def test_a_pair_is_the_first_sentence_and_the_whole_answer(talker: None, tokenizer: Any) -> None:
    pairs = preferences.preference_pairs(None, tokenizer)
    assert len(pairs) == preferences.PAIRS
    assert {pair["chosen"] for pair in pairs} == {"It is a thing."}
    assert {pair["rejected"] for pair in pairs} == {"It is a thing. It was made long ago! People use it to"}


def test_what_is_measured_is_asked_of_other_things_in_other_words() -> None:
    pairs, held = preferences.talk_questions(), preferences.talk_questions(held=True)
    assert not {one.split()[-1].rstrip("?.s") for one in pairs} & {one.split()[-1].rstrip("?.s") for one in held}
    assert not [one for one in held if one.startswith("What is")]


def test_answers_that_do_not_go_on_make_no_pairs(tokenizer: Any) -> None:
    with pytest.raises(InvalidInput, match="go on"):
        preferences.preference_pairs(tiny_llama(), tokenizer)


def test_surprise_about_a_text_is_what_the_model_s_own_loss_says(tokenizer: Any) -> None:
    model, text = tiny_llama(), "The library opens at nine."
    ids = tokenizer(tokenizer.bos_token + text, return_tensors="pt")["input_ids"]
    wanted = float(model(input_ids=ids, labels=ids).loss.detach())
    assert preferences.surprise(model, tokenizer, [(tokenizer.bos_token, text)]) == pytest.approx(wanted, abs=1e-5)


def test_dpo_widens_the_margin_and_the_model_is_looked_at(talker: None, tokenizer: Any, tmp_path: Any) -> None:
    from datasets import Dataset  # these take a second, which every process of the tests would pay above
    from trl import DPOConfig, DPOTrainer

    pairs = preferences.preference_pairs(None, tokenizer)[:4]
    look = preferences.preferred_look(tokenizer, preferences.held_shorts(None, tokenizer)[:2])
    args = DPOConfig(
        **trainers.laptop(tmp_path), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2, beta=0.5
    )
    trainer = DPOTrainer(
        finetuning.with_adapter(tiny_llama()),
        args=args,
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        callbacks=[trainers.watch(look, every=2)],
    )
    trainers.quiet(trainer).train()
    before, first, *_, last = trainers.curve(trainer)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-3)  # no margin yet
    assert last["margin"] > first["margin"]
    assert before["short_nats"] != last["short_nats"]
    assert (len(last["talk_tokens"]), last["cut"], last["one_sentence"]) == (20, 20, 0)


def test_the_model_is_left_in_the_mode_it_was_in(tokenizer: Any) -> None:
    model = tiny_llama().train()
    preferences.surprise(model, tokenizer, [("a", "b")])
    preferences.talks(model, tokenizer, ["Why?"])
    assert model.training
    assert torch.is_grad_enabled()
