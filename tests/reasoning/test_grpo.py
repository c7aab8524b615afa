"""TRL's own GRPO trainer on a tiny model: what it is given, what is looked at on the way, and how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.errors import InvalidInput
from helpers.making import finetuning
from helpers.reasoning import grpo, trainers
from helpers.reasoning.problems import word_sums
from helpers.reasoning.rewards import checked_reward
from tiny_llama import tiny_llama

HELD = word_sums("held", count=3)


def trainer(tokenizer: Any, folder: Path) -> Any:
    from trl import GRPOConfig, GRPOTrainer  # a second of import, which every process of the tests would pay above

    args = GRPOConfig(
        **trainers.laptop(folder),
        max_steps=4,
        save_steps=2,
        num_generations=2,
        per_device_train_batch_size=2,
        max_completion_length=4,
        learning_rate=1e-2,
    )
    made = GRPOTrainer(
        finetuning.with_adapter(tiny_llama()),
        uneven_reward,
        args=args,
        train_dataset=grpo.asked_sums(tokenizer, word_sums("train", count=12)),
        processing_class=tokenizer,
        callbacks=[trainers.watch(grpo.held_look(tokenizer, HELD), every=2)],
    )
    return trainers.quiet(made)


def uneven_reward(completions: list[str], answer: list[int], **rest: Any) -> list[float]:
    """Random weights never earn the checked reward, so theirs is the share of vowels."""
    assert checked_reward(completions, answer, **rest) == [0.0] * len(completions)
    return [sum(letter in "aeiou" for letter in text) / (1 + len(text)) for text in completions]


def test_a_curve_has_a_row_a_step_and_the_held_out_ones_as_asked(
    tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run := trainer(tokenizer, tmp_path)).train()
    rows = trainers.curve(run)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["step"] for row in rows if {"greedy", "drawn"} <= set(row)] == [0, 2, 4]
    assert all(0 <= row["reward"] <= 1 and 0 < row["tokens"] <= 4 for row in rows[1:])
    assert "reward" not in capsys.readouterr().out


@pytest.mark.nightly
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tokenizer: Any, tmp_path: Path) -> None:
    (whole := trainer(tokenizer, tmp_path)).train()
    (again := trainer(tokenizer, tmp_path)).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert trainers.curve(again) == trainers.curve(whole)


def test_held_out_answers_are_read_up_to_their_end(tokenizer: Any) -> None:
    model = tiny_llama().train()
    looked = grpo.held_look(tokenizer, HELD)(model)
    assert set(looked) == {"greedy", "drawn"}
    assert all(len(one["texts"]) == 1 and one["items"] == len(HELD) for one in looked.values())
    assert all(1 <= one["tokens"] <= grpo.LONGEST_ANSWER for one in looked.values())
    assert model.training


def test_shares_are_counted() -> None:
    right = f"<think>{HELD[0].expression} = {HELD[0].answer}</think>\n{HELD[0].answer}"
    counted = {"items": 2, "form": 1, "right": 1, "tokens": 10.0, "reward": 0.5, "marks": "r-", "texts": [right]}
    assert grpo.held_shares(HELD[:2], [(right, 18), ("7", 2)]) == counted


def test_drawn_answers_are_the_same_again_and_leave_other_draws_alone(tokenizer: Any) -> None:
    model, state = tiny_llama(), torch.random.get_rng_state()  # making the model seeds them
    one, again = (grpo.held_look(tokenizer, HELD)(model) for _ in range(2))
    assert one == again
    assert one["drawn"]["texts"] != one["greedy"]["texts"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_only_what_is_asked_for_is_looked_at(tokenizer: Any) -> None:
    assert set(grpo.held_look(tokenizer, HELD, how=["drawn"])(tiny_llama())) == {"drawn"}


def test_without_problems_nothing_is_answered(tokenizer: Any) -> None:
    with pytest.raises(InvalidInput, match="no problems"):
        grpo.held_look(tokenizer, [])
