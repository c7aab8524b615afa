"""Experts on disk answer as experts in memory do, and what is read and kept is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.errors import DamagedFile, InvalidInput
from helpers.experts import mixture, paging
from helpers.experts.mixture import Size

SMALL = Size(hidden=16, layers=2, heads=2, ffn=24, experts=4, vocabulary=64)
EXPERT_BYTES = 4 * 3 * 16 * 24
IDS = torch.arange(40).reshape(2, 20)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return out


@pytest.fixture
def model() -> Any:
    return mixture.tiny_moe(SMALL).eval()


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_experts_on_disk_answer_as_experts_in_memory(model: Any, keep: int, tmp_path: Path) -> None:
    resident = logits(model)
    pager = paging.page_out(model, tmp_path / "experts.safetensors", keep=keep)
    assert torch.allclose(logits(model), resident, rtol=0, atol=1e-6)
    assert pager.resident_bytes <= 2 * keep * EXPERT_BYTES


def test_reads_hits_and_bytes_are_counted(model: Any, tmp_path: Path) -> None:
    pager = paging.page_out(model, tmp_path / "experts.safetensors", keep=4)
    logits(model)
    first = pager.reads
    assert pager.bytes_read == first * EXPERT_BYTES == pager.resident_bytes
    assert pager.hits == 0
    logits(model)
    assert (pager.reads, pager.hits) == (first, first)


def test_the_expert_that_was_used_longest_ago_goes(model: Any, tmp_path: Path) -> None:
    pager = paging.page_out(model, tmp_path / "experts.safetensors", keep=2)
    for number in (0, 1, 0, 2, 0, 1):
        pager.expert(0, number)
    assert (pager.reads, pager.hits) == (4, 2)
    pager.forget()
    assert (pager.reads, pager.hits, pager.bytes_read, pager.resident_bytes) == (0, 0, 0, 0)


def test_the_experts_leave_the_model(model: Any, tmp_path: Path) -> None:
    before = model.num_parameters()
    paging.page_out(model, tmp_path / "experts.safetensors")
    assert before - model.num_parameters() == 2 * 4 * EXPERT_BYTES // 4


def test_what_cannot_be_paged_ends_in_a_sentence(model: Any, tmp_path: Path) -> None:
    file = tmp_path / "experts.safetensors"
    with pytest.raises(InvalidInput, match="holds nothing"):
        paging.page_out(model, file, keep=0)
    with pytest.raises(InvalidInput, match="no experts in memory"):
        paging.page_out(mixture.dense(SMALL, 48), file)
    paging.page_out(model, file)
    with pytest.raises(InvalidInput, match="no experts in memory"):
        paging.page_out(model, file)


def test_a_file_that_was_damaged_ends_in_a_sentence(model: Any, tmp_path: Path) -> None:
    file = tmp_path / "experts.safetensors"
    paging.page_out(model, file)
    file.write_bytes(b"half a file")
    with pytest.raises(DamagedFile, match=r"Expert \d of layer 0 cannot be read from experts\.safetensors"):
        logits(model)
