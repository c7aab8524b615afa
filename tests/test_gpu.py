"""A GPU, which no machine of ours has: torch.cuda answers as a driver would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import torch

from helpers import machine
from helpers.chat import open_chat
from helpers.errors import NotEnoughMemory
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
    machine.require_gpu_memory(2**60, "a giant")
