"""GRPO's and DPO's losses by hand, beside what TRL's own trainers compute on the same tiny batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import machine
from helpers.errors import InvalidInput
from helpers.reasoning import losses, trainers
from tiny_llama import tiny_llama

REWARDS = [1.0, 0.3, 0.3, 0.0, 0.1, 0.1]
PAIRS = [
    {"prompt": "Two and two?", "chosen": " Four.", "rejected": " It may be five, or so they say."},
    {"prompt": "Where is Rome?", "chosen": " In Italy, on the Tiber.", "rejected": " North."},
]


@pytest.fixture(autouse=True)
def _in_fp32() -> Iterator[None]:
    """On the processor: formulas are compared to a millionth, and on a GPU TRL would compute in bf16."""
    with machine.on_processor():
        yield


def grpo_trainer(tokenizer: Any, folder: Path, **settings: Any) -> Any:
    """TRL's trainer over six answers to two questions, three each."""
    from datasets import Dataset  # these take a second, which every process of the tests would pay above
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        **trainers.laptop(folder),
        num_generations=3,
        per_device_train_batch_size=6,
        max_completion_length=7,
        max_steps=1,
        **settings,
    )
    prompts = Dataset.from_list([{"prompt": "Two and two?"}, {"prompt": "Where is Rome, then?"}])
    trainer = GRPOTrainer(
        tiny_llama(), lambda **_: REWARDS, args=args, train_dataset=prompts, processing_class=tokenizer
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def written_batch(trainer: Any) -> dict[str, Any]:
    """Six answers that the trainer's model wrote, with TRL's advantages; two of them are made shorter."""
    asked = [row for row in trainer.train_dataset for _ in range(3)]
    batch = dict(trainer._generate_and_score_completions(asked))
    batch["completion_mask"][0, 4:] = batch["completion_mask"][4, 2:] = 0
    return batch


def logprobs(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return losses.token_logprobs(model, ids, mask, last=batch["completion_ids"].shape[1])


def test_advantages_are_those_of_trl(tokenizer: Any, tmp_path: Path) -> None:
    batch = written_batch(grpo_trainer(tokenizer, tmp_path))
    assert torch.allclose(losses.advantages(torch.tensor(REWARDS), 3), batch["advantages"], atol=1e-6)


def test_grpo_s_loss_and_gradient_are_those_of_trl(tokenizer: Any, tmp_path: Path) -> None:
    trainer = grpo_trainer(tokenizer, tmp_path, loss_type="grpo")
    batch = written_batch(trainer)
    # The answers were written by a model that has moved on since, so that some ratios are clipped and some are not.
    batch["old_per_token_logps"] = logprobs(trainer.model, batch).detach() + torch.linspace(-0.5, 0.5, 42).view(6, 7)
    theirs = trainer.compute_loss(trainer.model, batch)
    now = logprobs(trainer.model, batch)
    ours = losses.grpo_loss(now, batch["old_per_token_logps"], batch["completion_mask"], batch["advantages"])
    assert torch.allclose(ours, theirs, atol=1e-6)
    gradients = [torch.autograd.grad(loss, trainer.model.lm_head.weight)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_trl_s_default_weighs_tokens_alike_and_is_another_loss(tokenizer: Any, tmp_path: Path) -> None:
    trainer = grpo_trainer(tokenizer, tmp_path)
    batch = written_batch(trainer)
    batch["num_items_in_batch"] = batch["completion_mask"].sum()
    now, mask = logprobs(trainer.model, batch), batch["completion_mask"]
    per_answer = losses.grpo_loss(now, now.detach(), mask, batch["advantages"])
    per_token = -(batch["advantages"][:, None] * mask).sum() / mask.sum()
    theirs = trainer.compute_loss(trainer.model, batch)
    assert trainer.loss_type == "dapo"
    assert torch.allclose(theirs, per_token, atol=1e-6)
    assert not torch.allclose(theirs, per_answer, atol=1e-3)


def test_dpo_s_loss_is_that_of_trl(tokenizer: Any, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    args = DPOConfig(**trainers.laptop(tmp_path), per_device_train_batch_size=2, beta=0.3)
    trainer = DPOTrainer(
        tiny_llama(), tiny_llama(seed=1), args=args, train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model, dict(batch))

    def whole(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        ids = batch["input_ids"]
        said = losses.token_logprobs(model, ids, batch["attention_mask"], last=ids.shape[1] - 1)
        chosen, rejected = (said * batch["completion_mask"][:, 1:]).sum(dim=1).chunk(2)
        return chosen, rejected

    (chosen, rejected), (frozen_chosen, frozen_rejected) = whole(trainer.model), whole(trainer.ref_model)
    assert torch.allclose(
        losses.dpo_loss(chosen, rejected, frozen_chosen, frozen_rejected, beta=0.3), theirs, atol=1e-5
    )


def test_a_group_of_equal_rewards_teaches_nothing() -> None:
    assert not losses.advantages(torch.tensor([0.0, 0.0, 0.3, 0.3]), 2).any()


def test_what_is_no_group_is_refused() -> None:
    for rewards, group in ((5, 2), (4, 1)):
        with pytest.raises(InvalidInput, match="groups"):
            losses.advantages(torch.ones(rewards), group)
