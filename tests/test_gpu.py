"""A GPU: three kinds of tests, of which the first two run on any machine.

torch.cuda answers as a driver would, for what the course asks of one. A pretended device computes with real numbers and
refuses what a GPU refuses (far_device.py), for tensors that were left on the processor. Where there is a GPU, a few
things are done on it; where there is none, these are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import far_device
import tiny_phi
from helpers import machine
from helpers.chat import open_chat
from helpers.errors import InvalidInput, NotEnoughMemory
from helpers.experts import mixture
from helpers.instruct import evaluate, offload
from helpers.making import training
from helpers.models import sources


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes torch see one NVIDIA GPU."""

    def see(capability: tuple[int, int], built: Sequence[str] = ("sm_75", "sm_86"), free_gib: float = 4) -> None:
        answers = {
            "is_available": True,
            "device_count": 1,
            "get_device_name": "GeForce GTX 1080",
            "get_device_capability": capability,
            "get_arch_list": list(built),
            "is_bf16_supported": capability >= (8, 0),
            "mem_get_info": (int(free_gib * machine.GIB), 8 * machine.GIB),
            "empty_cache": None,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
        monkeypatch.setattr(torch.version, "cuda", "13.0")

    return see


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((8, 9), ("sm_75", "sm_86"), True),
        ((7, 5), ("sm_75", "sm_86"), True),
        ((12, 0), ("sm_75", "compute_90"), True),
        ((6, 1), ("sm_75", "sm_86", "compute_90"), False),
        ((7, 0), ("sm_75",), False),
        ((10, 0), ("sm_90a", "sm_80"), False),
        ((6, 1), (), True),  # a torch that tells nothing is believed
    ],
)
def test_a_gpu_that_torch_was_not_built_for_is_left_aside(
    gpu: Callable[..., None], capability: tuple[int, int], built: Sequence[str], runs: bool
) -> None:
    gpu(capability, built)
    if runs:
        assert machine.device() == "cuda"
        return
    with pytest.warns(RuntimeWarning, match=rf"GTX 1080.*{capability[0]}\.{capability[1]}.*The processor computes"):
        assert machine.device() == "cpu"
    with pytest.warns(RuntimeWarning):
        assert machine.precision() in ("fp32", "bf16")


def test_a_driver_that_fails_leaves_the_gpu_aside(gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA driver initialization failed\nmore")

    gpu((8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    assert machine.gpu_trouble() == "The GPU does not answer torch: CUDA driver initialization failed."


def test_a_model_is_put_on_a_gpu_only_where_it_has_room(gpu: Callable[..., None]) -> None:
    gpu((8, 6), free_gib=0.5)
    large = SimpleNamespace(parameters=lambda: [torch.empty(2**30, dtype=torch.int8, device="meta")])
    with pytest.raises(
        NotEnoughMemory, match=r"needs 1\.0 GiB of the GPU's memory, and GeForce .* 0\.5 GiB free"
    ) as told:
        machine.placed(large, "Phi-4")
    assert "CUDA_VISIBLE_DEVICES=-1" in told.value.next_step


def test_a_gpu_is_asked_before_a_model_is_fetched_for_it(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu((8, 6), free_gib=0.1)
    monkeypatch.setattr(sources, "folder", lambda card: pytest.fail("the model was fetched first"))
    with pytest.raises(NotEnoughMemory, match="SmolLM2-135M needs 0.3 GiB of the GPU's memory"):
        open_chat("smollm2-135m", backend="transformers")


def test_without_a_gpu_nothing_is_asked_of_one() -> None:
    with machine.on_processor():
        machine.require_gpu_memory(2**60, "a giant")


def test_attention_is_not_planned_anew_for_each_token(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu((9, 0), built=("sm_90",))
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda enabled: told.append(enabled))
    told: list[bool] = []
    assert (machine.device(), told) == ("cuda", [False])


def test_what_closed_models_left_counts_as_free(gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu((8, 6), free_gib=0.5)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: gpu((8, 6), free_gib=6))
    machine.require_gpu_memory(2 * machine.GIB, "the next model")


def test_the_processor_can_be_chosen_for_a_while_and_for_good(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu((8, 6))
    monkeypatch.setenv("SLM_DEVICE", "auto")
    with machine.on_processor():
        assert (machine.device(), os.environ["SLM_DEVICE"]) == ("cpu", "cpu")
    assert (machine.device(), os.environ["SLM_DEVICE"]) == ("cuda", "auto")
    machine.on_processor()
    assert machine.device() == "cpu"


def test_a_device_that_cannot_be_chosen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_DEVICE", "gpu")
    with pytest.raises(InvalidInput, match="SLM_DEVICE is 'gpu'"):
        machine.device()


def test_a_clock_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waited.append("cuda"))
    for place in ("cpu", "cuda:0", torch.device("cuda")):
        machine.finish(place)
    assert len(waited) == 2


def test_the_time_of_a_token_is_that_of_its_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    monkeypatch.setattr(machine, "finish", waited.append)
    small = mixture.Size(hidden=16, layers=1, heads=2, ffn=8, experts=2, vocabulary=40)
    mixture.seconds_per_token(mixture.dense(small, 8), torch.arange(6), warm=1)
    assert len(waited) == 6


def test_processes_that_share_a_gpu_exchange_their_rows_without_it(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu((8, 6))
    monkeypatch.setattr("accelerate.PartialState", lambda **options: options)
    assert evaluate._state() == {"cpu": False, "backend": "gloo"}


def test_a_training_may_follow_one_of_another_precision() -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    ids, model = torch.arange(200) % 40, training.tiny_phi("0.2M", 40)
    AcceleratorState._reset_state(reset_partial_state=True)
    Accelerator(cpu=True, mixed_precision="bf16")
    with machine.on_processor():
        rows = training.train(model, training.batches(ids, rows=2, length=16), steps=1, peak=1e-3)
    assert len(rows) == 1


def test_a_model_that_is_on_one_device_whole_is_placed_there(phi_folder: Path) -> None:
    with machine.on_processor(), offload.open_offloaded(phi_folder, max_memory={"cpu": "1GB"}) as chat:
        assert offload.placement(chat)["device"].tolist() == ["cpu"]


# On a device that is pretended


@pytest.fixture(scope="module")
def far(phi_folder: Path) -> dict[str, str]:
    """What became of each check, in a process of their own, which keeps its device for good."""
    command = [sys.executable, far_device.__file__, str(phi_folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=250, check=True)
    return {name: said for line in done.stdout.splitlines() for name, said in json.loads(line).items()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch takes no further device beside a GPU")
@pytest.mark.parametrize("check", far_device.CHECKS)
def test_no_tensor_is_left_behind(far: dict[str, str], check: str) -> None:
    assert far[check] == "ok"


# On a GPU, where there is one

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can compute on")


@on_gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_phi_answers_on_the_gpu(phi_folder: Path, precision: str) -> None:
    with open_chat(phi_folder, "transformers", precision=precision, max_new_tokens=12) as chat:
        assert chat.backend.model.device.type == "cuda"
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert {q: chat.another().say(q).text for q in tiny_phi.ANSWERS} == tiny_phi.ANSWERS


@on_gpu
def test_a_training_on_the_gpu_may_be_followed_by_one_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = training.batches(torch.arange(400) % 40, rows=4, length=32)
    for place, chosen in (("cuda", "auto"), ("cpu", "cpu")):
        monkeypatch.setenv("SLM_DEVICE", chosen)
        model = training.tiny_phi("0.2M", 40)
        rows = training.train(model, batches, steps=20, peak=1e-2)
        assert model.device.type == place
        assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


@on_gpu
def test_a_closed_model_gives_the_gpu_back() -> None:
    free = torch.cuda.mem_get_info()[0]
    held = torch.empty(int(0.6 * free), dtype=torch.int8, device="cuda")
    del held
    machine.require_gpu_memory(int(0.6 * free), "the next model")


@on_gpu
def test_a_model_on_the_gpu_has_the_mixtures_routes_of_the_processor() -> None:
    from helpers.experts import routing

    model, ids = mixture.tiny_moe(mixture.Size()), mixture.held_texts()["Python"][:512]
    here = routing.routes(model, ids).experts
    there = routing.routes(machine.placed(model, "Phi"), ids).experts
    assert (here == there).float().mean() > 0.99
