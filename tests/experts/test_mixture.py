"""Small mixtures and their dense twins: counted to the digit, trained, resumed, compared."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers import anatomy, data
from helpers.chat import open_chat
from helpers.errors import DamagedFile, InvalidInput, NotEnoughMemory
from helpers.experts import mixture, routing
from helpers.experts.mixture import Size
from helpers.making import training

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "data" / "moe_05"
SMALL = Size(hidden=32, layers=2, heads=2, ffn=16, experts=4, vocabulary=64)
PACE: training.Pace = {"peak": 2e-2, "layers": 1.0}


@pytest.fixture(scope="module")
def ids() -> dict[str, torch.Tensor]:
    """Two languages of four letters each, which are easy to learn and easy to tell apart."""
    return {"low": torch.arange(400) % 4, "high": 32 + torch.arange(400) % 4}


def run(ids: Any, steps: int = 12, *, seed: int = 0, **options: Any) -> tuple[Any, list[training.LossRow]]:
    model = mixture.tiny_moe(SMALL, seed=seed)
    batches = mixture.balanced_batches(ids, rows=4, length=16, seed=seed)
    return model, training.train(model, batches, steps=steps, loss=mixture.balanced_loss, **PACE, **options)


# Counting


def test_the_twins_have_the_size_that_their_name_says() -> None:
    counts = {name: anatomy.count(model) for name, model in mixture.contenders(Size()).items()}
    mix, active, total = counts["mixture"], counts["dense, same active"], counts["dense, same total"]
    assert mix.total == 2_889_984
    assert active.total == pytest.approx(mix.active, rel=0.005)
    assert total.total == pytest.approx(mix.total, rel=0.005)
    assert active.active == active.total


def test_a_model_that_is_only_timed_has_the_same_weights_in_number_and_computes() -> None:
    drawn, repeated = mixture.dense(SMALL, 32), mixture.dense(SMALL, 32, seed=None)
    assert anatomy.count(repeated) == anatomy.count(drawn)
    assert torch.isfinite(repeated(torch.arange(8)[None]).logits).all()


def test_fewer_than_two_experts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="uses two experts"):
        mixture.tiny_moe(Size(experts=1))


def test_the_memory_that_the_real_one_needs_is_said_before_any_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.machine.free_memory_gib", lambda: 8.0)
    monkeypatch.setattr("helpers.models.sources.folder", lambda card: pytest.fail("it was downloaded"))
    with pytest.raises(NotEnoughMemory, match=r"Phi-3.5-MoE needs 78.0 GiB of memory.* 8.0 GiB free"):
        open_chat("phi-3.5-moe", backend="transformers", precision="bf16")


# Training


def test_training_learns(ids: dict[str, torch.Tensor]) -> None:
    model, rows = run(ids, steps=60)
    assert rows[0]["loss"] > 0.9 * math.log(64)
    losses = mixture.held_out(model, ids, rows=4, length=16)
    assert losses["mean"] < 0.2 * rows[0]["loss"]
    assert losses["mean"] == pytest.approx((losses["low"] + losses["high"]) / 2)


def test_a_stopped_run_draws_the_same_experts_and_resumes_with_the_same_losses(
    ids: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    def stop(rows: list[training.LossRow]) -> None:
        if len(rows) == 8:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    whole_model, whole = run(ids)
    with pytest.raises(KeyboardInterrupt):
        run(ids, checkpoint=file, save_every=5, on_step=stop)
    model, rows = run(ids, checkpoint=file, save_every=5)
    assert [row["loss"] for row in rows] == [row["loss"] for row in whole]
    assert torch.equal(model.lm_head.weight, whole_model.lm_head.weight)


def test_another_seed_is_another_run(ids: dict[str, torch.Tensor]) -> None:
    assert run(ids, steps=2, seed=1)[1][-1]["loss"] != run(ids, steps=2)[1][-1]["loss"]


def test_the_balancing_loss_is_added_with_its_weight_and_reaches_the_router(ids: dict[str, torch.Tensor]) -> None:
    model, batch = mixture.tiny_moe(SMALL).eval(), mixture.balanced_batches(ids, rows=2, length=16)(0)
    plain, balanced = training.next_token_loss(model, batch), mixture.balanced_loss(model, batch)
    imbalance = model(**batch, output_router_logits=True).aux_loss.detach()
    assert float(imbalance) > 1  # 2, for two experts a token, would be about even
    assert float(balanced.detach()) == pytest.approx(float(plain.detach()) + mixture.BALANCE * float(imbalance))
    (balanced - plain).backward()
    assert all(router.weight.grad.abs().sum() > 0 for router in routing.routers(model))


def test_every_kind_of_text_has_its_rows(ids: dict[str, torch.Tensor]) -> None:
    batch = mixture.balanced_batches(ids, rows=4, length=16)(3)["input_ids"]
    assert (batch[:2] < 32).all()
    assert (batch[2:] >= 32).all()
    with pytest.raises(InvalidInput, match="do not divide among 2 kinds"):
        mixture.balanced_batches(ids, rows=3, length=16)


# Comparing


def test_ratios_are_those_of_seeds_that_both_have() -> None:
    runs = [
        {"name": name, "seed": seed, "points": [{"mean": loss}]}
        for name, seed, loss in (("a", 0, 2.0), ("a", 1, 4.0), ("b", 0, 4.0))
    ]
    assert mixture.ratios(runs, "a", "b") == [0.5]


def test_decoding_is_timed_token_by_token() -> None:
    seconds = mixture.seconds_per_token(mixture.dense(SMALL, 32), torch.arange(9), warm=4)
    assert len(seconds) == 5
    assert min(seconds) > 0


# What we trained longer, and stored


@pytest.fixture(scope="module")
def stored() -> Any:
    return data.stored("moe_05")


def test_every_stored_run_read_the_same_tokens_with_every_seed(stored: Any) -> None:
    looks = {tuple(point["tokens"] for point in run["points"]) for run in stored["runs"]}
    assert len(looks) == 1
    seeds: dict[str, set[int]] = {}
    for one in stored["runs"]:
        seeds.setdefault(one["name"], set()).add(one["seed"])
    assert len(seeds) == 4
    assert len({tuple(sorted(part)) for part in seeds.values()}) == 1
    assert min(map(len, seeds.values())) >= 2


def test_the_stored_runs_learn_all_along(stored: Any) -> None:
    for one in stored["runs"]:
        losses = [point["mean"] for point in one["points"]]
        assert all(later < earlier + 0.05 for earlier, later in pairwise(losses))


def test_the_shipped_mixture_opens_and_has_learnt() -> None:
    model = AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    ids = training.encode(tokenizer, ["\n".join(f"{n} + {7 * n} = {8 * n}" for n in range(99))])
    assert training.held_out_loss(model, ids, rows=2) < 0.3 * math.log(len(tokenizer))
    assert (SHIPPED / "model.safetensors").stat().st_size < 8e6


def test_the_shipped_mixture_comes_with_texts_that_it_is_judged_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held = mixture.held_texts()
    assert {kind: len(ids) for kind, ids in held.items()} == dict.fromkeys(mixture.TEXT_KINDS, 12_000)
    assert max(int(ids.max()) for ids in held.values()) < mixture.VOCABULARY
    monkeypatch.setattr(mixture, "HELD_OUT", tmp_path / "held.safetensors")
    with pytest.raises(DamagedFile, match="Restore it with git"):
        mixture.held_texts()
