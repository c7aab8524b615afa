"""LoRA on a tiny model of SmolLM2's class, by the task of dates in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.errors import InvalidInput
from helpers.making import dates, finetuning, training
from tiny_llama import tiny_llama

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def model() -> Any:
    return tiny_llama()


def test_answers_stand_in_the_last_columns(tokenizer: Any) -> None:
    batch = finetuning.answered(tokenizer, dates.examples(5, 1)[0])
    ends = batch["input_ids"][:, -finetuning.ANSWER_TOKENS :]
    assert tokenizer.batch_decode(ends[:, :-1]) == [e.iso for e in dates.examples(5, 1)[0]]
    assert set(ends[:, -1].tolist()) == {tokenizer.eos_token_id}


def test_every_example_comes_once_before_any_comes_again(tokenizer: Any) -> None:
    examples = dates.examples(10, 1)[0]
    batch_at = finetuning.example_batches(tokenizer, examples, rows=5)
    seen = [text for step in (0, 1) for text in tokenizer.batch_decode(batch_at(step)["input_ids"])]
    assert all(any(e.text in text for text in seen) for e in examples)


def test_only_the_adapter_is_trained(model: Any) -> None:
    adapted = finetuning.with_adapter(model, rank=4)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    # Rank × (rows + columns) of each matrix: q 32+32, k 32+16, v 32+16, o 32+32, in two layers.
    assert training.trained_parameters(adapted) == 2 * 4 * (64 + 48 + 48 + 64)


def test_a_new_adapter_changes_nothing(model: Any) -> None:
    before = model(IDS).logits
    assert torch.equal(finetuning.with_adapter(model)(IDS).logits, before)


def test_fine_tuning_lowers_the_loss_and_leaves_the_base_alone(model: Any, tokenizer: Any) -> None:
    frozen = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    adapted = finetuning.with_adapter(model)
    batches = finetuning.example_batches(tokenizer, dates.examples(4, 1)[0], rows=4)
    rows = training.train(adapted, batches, steps=40, peak=3e-2, loss=finetuning.answer_loss)
    assert rows[-1]["loss"] < 0.95 * rows[0]["loss"]
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight.cpu(), frozen)


def test_the_loss_is_the_surprise_at_the_answers_alone(model: Any, tokenizer: Any) -> None:
    batch = finetuning.answered(tokenizer, dates.examples(3, 1)[0])
    surprise = -model(**batch).logits[:, :-1].log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])
    wanted = surprise[:, -finetuning.ANSWER_TOKENS :].mean()
    assert finetuning.answer_loss(model, batch).item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.fixture
def adapted(model: Any) -> Any:
    """The model with an adapter, as if it had been trained."""
    adapted = finetuning.with_adapter(model)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    return adapted


def test_the_merged_model_says_what_the_adapter_said(adapted: Any) -> None:
    wanted = adapted(IDS).logits
    merged = adapted.merge_and_unload()
    assert torch.allclose(merged(IDS).logits, wanted, atol=1e-5)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]


def test_a_saved_adapter_loads_onto_the_base(adapted: Any, tmp_path: Path) -> None:
    wanted = adapted(IDS).logits
    adapted.save_pretrained(tmp_path)
    base = adapted.unload()
    assert not torch.allclose(base(IDS).logits, wanted, atol=1e-3)
    loaded = finetuning.load_adapter(base, tmp_path).eval()
    assert torch.allclose(loaded(IDS).logits, wanted, atol=1e-6)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) < 60_000


def test_what_is_not_there_ends_in_a_sentence(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no adapter"):
        finetuning.load_adapter(model, tmp_path)
    with pytest.raises(InvalidInput, match="no matrices named"):
        finetuning.with_adapter(model, targets=["nothing"])
    with pytest.raises(InvalidInput, match="no examples"):
        finetuning.example_batches(tokenizer, [], rows=4)
    with pytest.raises(InvalidInput, match="not a date"):
        finetuning.answered(tokenizer, [dates.DateExample("today", "now", "odd")])
    with pytest.raises(InvalidInput, match="not a date"):  # one too short and one as much too long
        finetuning.answered(tokenizer, [dates.DateExample("a", iso, "odd") for iso in ("1987-03-0", "1987-03-055")])


def test_answers_come_as_asked_and_leave_the_adapter_beside_its_matrices(model: Any, tokenizer: Any) -> None:
    adapted = finetuning.with_adapter(model)
    for name, p in adapted.named_parameters():
        torch.nn.init.normal_(p) if "lora_B" in name else None
    texts, wanted = ["May the third, nineteen ninety-seven", "May 1"], adapted(IDS).logits
    together = finetuning.greedy_answers(adapted, tokenizer, texts)
    assert together == [finetuning.greedy_answers(adapted, tokenizer, [text])[0] for text in texts]
    assert together[0] != together[1]
    assert torch.allclose(adapted(IDS).logits, wanted, atol=1e-4)


def test_answers_are_read_and_judged(model: Any, tokenizer: Any) -> None:
    held = dates.examples(1, 3)[1]
    given = finetuning.greedy_answers(model, tokenizer, [e.text for e in held])
    rows = dates.verdicts(held, given, "random weights")
    assert [row["right"] for row in rows] == [False] * 3
    assert dates.verdicts(held, [e.iso for e in held], "perfect")[0]["right"]
