"""The training loop: it learns, it resumes, it says what went wrong; what it saves opens like any model."""

from __future__ import annotations

import errno
import importlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize, quantize

from helpers import plots
from helpers.chat import open_chat
from helpers.data import stored
from helpers.errors import DamagedFile, InvalidInput, NotEnoughDisk
from helpers.experts import mixture
from helpers.making import bpe, distillation, export, quantization, training

TEXT = "one two three four five six seven eight nine ten " * 60
VOCABULARY = 280
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return bpe.train_tokenizer([TEXT], VOCABULARY)


@pytest.fixture(scope="module")
def ids(tokenizer: Any) -> torch.Tensor:
    return training.encode(tokenizer, [TEXT])


def run(ids: torch.Tensor, steps: int = 20, **options: Any) -> tuple[Any, list[training.LossRow]]:
    model = training.tiny_phi("0.2M", VOCABULARY)
    batches = training.batches(ids, rows=4, length=32)
    return model, training.train(model, batches, **({"steps": steps, "peak": 1e-2} | options))


def losses(rows: list[training.LossRow]) -> list[float]:
    return [row["loss"] for row in rows]


def test_training_learns(ids: torch.Tensor) -> None:
    model, rows = run(ids, steps=40)
    assert rows[0]["loss"] == pytest.approx(math.log(VOCABULARY), rel=0.05)
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    assert training.held_out_loss(model, ids, rows=4, length=32) < 0.3 * rows[0]["loss"]


def test_a_stopped_run_resumes_with_the_same_losses(ids: torch.Tensor, tmp_path: Path) -> None:
    def stop(rows: list[training.LossRow]) -> None:
        if len(rows) == 13:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    whole_model, whole = run(ids)
    with pytest.raises(KeyboardInterrupt):
        run(ids, checkpoint=file, save_every=5, on_step=stop)
    seen: list[int] = []
    model, rows = run(ids, checkpoint=file, save_every=5, on_step=lambda rows: seen.append(len(rows)))
    assert seen[0] == 11
    assert losses(rows) == losses(whole)
    assert torch.equal(model.lm_head.weight, whole_model.lm_head.weight)


def test_a_finished_run_is_not_run_again_and_its_checkpoint_is_no_other_runs(ids: torch.Tensor, tmp_path: Path) -> None:
    file, seen = tmp_path / "run.pt", []
    _, first = run(ids, steps=3, checkpoint=file)
    _, again = run(ids, steps=3, checkpoint=file, on_step=seen.append)
    assert (again, seen) == (first, [])


def test_a_checkpoint_of_another_run_is_refused(ids: torch.Tensor, tmp_path: Path) -> None:
    run(ids, steps=3, checkpoint=tmp_path / "run.pt")
    with pytest.raises(InvalidInput, match=r"differs in steps \(3 there, 4 here\), data"):
        run(ids, steps=4, checkpoint=tmp_path / "run.pt")


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"seed": 1}, "data"), ({"rows": 2}, "data"), ({"length": 16}, "data"), ({"ids": 5}, "data"), ({}, "loss")],
)
def test_a_run_with_other_data_or_seed_does_not_go_on_from_a_checkpoint(
    ids: torch.Tensor, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    def attempt(loss: Any, *, ids: torch.Tensor = ids, rows: int = 4, length: int = 32, seed: int = 0) -> None:
        model, batches = training.tiny_phi("0.2M", VOCABULARY), training.batches
        how = {"steps": 2, "peak": 1e-2, "loss": loss, "checkpoint": tmp_path / "run.pt"}
        training.train(model, batches(ids, rows=rows, length=length, seed=seed), **how)

    attempt(training.next_token_loss)
    if "ids" in changed:  # the same length, and another text
        changed = {"ids": ids.roll(changed["ids"])}
    before = (tmp_path / "run.pt").read_bytes()
    with pytest.raises(InvalidInput, match=rf"differs in {told}") as refused:
        attempt(training.next_token_loss if changed else distillation.distillation_loss(0.5), **changed)
    assert "Delete" in refused.value.next_step
    assert (tmp_path / "run.pt").read_bytes() == before


def test_a_loss_with_another_number_in_it_is_another_run() -> None:
    told = {training._told(distillation.distillation_loss(share)) for share in (0.5, 0.25, 0.5)}
    assert len(told) == 2


def test_a_fingerprint_tells_values_shapes_and_types_apart() -> None:
    numbers = torch.arange(6)
    others = [numbers.flip(0), numbers.reshape(2, 3), numbers.float(), numbers.to(torch.bfloat16), {"a": numbers}, 6]
    assert len({training.fingerprint(one) for one in [numbers, *others]}) == 7
    assert training.fingerprint(numbers) == training.fingerprint(numbers.clone())


@pytest.mark.parametrize("name", ["curves_02", "moe_05"])
def test_stored_runs_of_other_settings_are_not_taken_for_done(
    name: str, ids: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = importlib.import_module(f"training.{name}")
    stored = tmp_path / f"{name}.json"
    stored.write_text(json.dumps({"steps": 3, "settings": "other", "runs": [{"name": "mixture", "seed": 0}]}))
    monkeypatch.setattr(script, "STORED", stored)
    monkeypatch.setattr(script, "prepared", lambda: (None, ids, ids), raising=False)
    monkeypatch.setattr(script, "SIZE", mixture.Size(vocabulary=VOCABULARY), raising=False)
    monkeypatch.setattr(mixture, "texts", lambda: ({"low": [TEXT]}, {"low": [TEXT]}))
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(InvalidInput, match=rf"{name}\.json belongs to another run, which differs in") as refused:
        script.main()
    assert "Move" in refused.value.next_step


def test_a_damaged_checkpoint_ends_in_a_sentence(ids: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "run.pt").write_bytes(b"half a file")
    with pytest.raises(DamagedFile, match="cannot be read"):
        run(ids, checkpoint=tmp_path / "run.pt")


@pytest.mark.fault("models and their files")
def test_a_loss_that_is_no_number_ends_in_a_sentence(ids: torch.Tensor) -> None:
    with pytest.raises(InvalidInput, match="The loss became nan at step 0"):
        run(ids, loss=lambda model, batch: training.next_token_loss(model, batch) * math.nan)


@pytest.mark.parametrize(("steps", "peak"), [(0, 1e-3), (5, 0.0), (5, math.inf), (5, math.nan)])
def test_settings_that_train_nothing_are_refused(ids: torch.Tensor, steps: int, peak: float) -> None:
    with pytest.raises(InvalidInput, match="train nothing"):
        run(ids, steps=steps, peak=peak)


def test_an_empty_corpus_and_an_unknown_size_end_in_a_sentence(tokenizer: Any) -> None:
    with pytest.raises(InvalidInput, match="corpus is empty"):
        training.encode(tokenizer, [])
    with pytest.raises(InvalidInput, match="do not fill batches"):
        training.batches(torch.arange(9), rows=2, length=32)
    with pytest.raises(InvalidInput, match="fewer than one stretch"):
        training.held_out_loss(training.tiny_phi("0.2M", VOCABULARY), torch.arange(9))
    with pytest.raises(InvalidInput, match=r"0\.2M"):
        training.tiny_phi("7B", VOCABULARY)


@pytest.mark.fault("models and their files")
def test_a_disk_that_fills_up_ends_in_a_sentence_and_leaves_nothing(
    ids: torch.Tensor, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(NotEnoughDisk, match="while writing the checkpoint"):
        run(ids, steps=1, checkpoint=tmp_path / "run.pt")
    with pytest.raises(NotEnoughDisk, match="while writing the model"):
        export.save_model(training.tiny_phi("0.2M", VOCABULARY), tokenizer, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [training.learning_rate(step, 50, 1.0, 5) for step in range(50)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) == 1.0
    assert 0.1 <= min(rates[5:]) < 0.11


def test_a_batch_follows_from_seed_and_step(ids: torch.Tensor) -> None:
    one, two = training.batches(ids, rows=2, length=8), training.batches(ids, rows=2, length=8, seed=1)
    assert torch.equal(one(3)["input_ids"], one(3)["input_ids"])
    assert not torch.equal(one(3)["input_ids"], one(4)["input_ids"])
    assert not torch.equal(one(3)["input_ids"], two(3)["input_ids"])


def test_every_size_is_about_as_large_as_its_name_says() -> None:
    for size in ("0.2M", "0.9M", "2M", "8M"):
        millions = training.trained_parameters(training.tiny_phi(size, 2048)) / 1e6
        assert millions == pytest.approx(float(size[:-1]), rel=0.25)


def test_the_live_curve_draws_every_so_many_steps(ids: torch.Tensor) -> None:
    curve = plots.LiveCurve(every=5)
    _, rows = run(ids, steps=10, on_step=curve)
    assert len(curve.draw(rows).lines) == 2


# What was trained is a model like any other


@pytest.fixture(scope="module")
def mine(ids: torch.Tensor, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "counter"
    return export.save_model(run(ids, steps=40)[0], tokenizer, folder)


def test_a_trained_model_opens_as_a_chat(mine: Path) -> None:
    with open_chat(mine) as chat:
        assert chat.say("one two three four", max_new_tokens=4).text.startswith(" five")


def test_an_exported_model_says_the_same_in_llama_cpp(mine: Path) -> None:
    file = export.to_gguf(mine, mine.with_suffix(".gguf"))
    with open_chat(mine, backend="transformers") as ours, open_chat(file, backend="llamacpp") as theirs:
        for text in ("one two three", "seven 365 é"):
            assert theirs.backend.tokenize(text) == ours.backend.tokenize(text)
        answers = [chat.say("six seven", max_new_tokens=8).text for chat in (ours, theirs)]
    assert answers[0] == answers[1]


def test_an_exported_model_can_be_quantized(mine: Path) -> None:
    file = export.to_gguf(mine, mine.with_suffix(".gguf"))
    small = quantization.requantize(file, mine.with_name("counter-q8.gguf"), "Q8_0")
    assert small.stat().st_size < 0.8 * file.stat().st_size
    with open_chat(small) as chat:
        assert chat.say("one two three four", max_new_tokens=4).text.startswith(" five")


def test_a_rewritten_file_has_all_keys_and_the_tensors_in_their_new_format(mine: Path) -> None:
    file = export.to_gguf(mine, mine.with_suffix(".gguf"))
    before, after = (GGUFReader(f) for f in (file, quantization.requantize(file, mine.with_name("q4.gguf"), "Q4_0")))
    keys = [{k: v.contents() for k, v in r.fields.items() if k != "general.file_type"} for r in (before, after)]
    assert keys[0] == keys[1]
    assert {t.tensor_type.name for t in after.tensors} == {"F32", "Q8_0", "Q4_0"}
    for old, new in zip(before.tensors, after.tensors, strict=True):
        numbers = dequantize(old.data, old.tensor_type)
        assert (new.name, new.data.tolist()) == (old.name, quantize(numbers, new.tensor_type).tolist())


def test_only_the_courses_own_models_are_exported(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no folder that save_model wrote"):
        export.to_gguf(tmp_path, tmp_path / "x.gguf")


def test_wider_layers_take_smaller_steps_and_the_table_does_not() -> None:
    narrow, wide = training.pace("0.2M"), training.pace("2M")
    assert narrow["peak"] == wide["peak"]
    assert narrow["layers"] == pytest.approx(3 * wide["layers"])


# What we trained longer, and stored


def test_the_stored_runs_learn_more_from_more_text() -> None:
    curves = stored("curves_02")
    for size in {row["size"] for row in curves["scaling"]}:
        runs = sorted((row["tokens"], row["loss"]) for row in curves["scaling"] if row["size"] == size)
        assert [loss for _, loss in runs] == sorted((loss for _, loss in runs), reverse=True)
    held = [point["held_out"] for point in curves["long"]["points"]]
    assert held == sorted(held, reverse=True)


def test_the_stored_students_come_in_pairs() -> None:
    students = stored("curves_02")["distillation"]["students"]
    assert distillation.gain(students).low > 0
    assert len(students) == 2 * len({row["seed"] for row in students})
