"""Quantization: the error obeys its bound, the bits are counted, and a file is rewritten whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.chat import open_chat
from helpers.errors import DamagedFile, InvalidInput
from helpers.making import quantization, training
from helpers.making.quantization import absmax
from helpers.models import sources
from helpers.records import ModelCard

SHARES = ["matrix", "channel", 32]


@pytest.fixture
def weight() -> torch.Tensor:
    """A matrix with one weight far outside, as trained ones have."""
    weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
    weight[3, 5] = 40.0
    return weight


@pytest.mark.parametrize("share", SHARES)
def test_no_weight_moves_by_more_than_half_a_scale(weight: torch.Tensor, share: quantization.Share) -> None:
    for bits in (2, 3, 4, 8):
        made = absmax(weight, bits, share)
        assert made.weights().shape == weight.shape
        assert ((made.weights() - weight).abs() <= made.bound() * (1 + 1e-5)).all()
        assert made.levels.abs().max() <= 2 ** (bits - 1) - 1


def test_scales_for_fewer_weights_make_smaller_errors(weight: torch.Tensor) -> None:
    errors = [float((absmax(weight, 4, share).weights() - weight).pow(2).mean()) for share in SHARES]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]


def test_what_is_on_the_grid_comes_back_exactly() -> None:
    for weight in (torch.tensor([[-7.0, 0.0, 3.0, 7.0]]), torch.zeros(2, 4)):
        assert torch.equal(absmax(weight, 4).weights(), weight)


def test_the_bits_of_the_scales_are_counted(weight: torch.Tensor) -> None:
    assert absmax(weight, 4, 32).bits_per_weight == 4.5
    assert absmax(weight, 8, "channel").bits_per_weight == 8 + 16 / 64
    assert 4 < absmax(weight, 4, "matrix").bits_per_weight < 4.01


def test_what_cannot_be_quantized_ends_in_a_sentence(weight: torch.Tensor) -> None:
    for bits, share in ((1, "matrix"), (9, "matrix"), (4, 0), (4, 7), (4, "row")):
        with pytest.raises(InvalidInput):
            absmax(weight, bits, share)
    for bad in (torch.ones(3), torch.tensor([[1.0, float("nan")]])):
        with pytest.raises(InvalidInput, match="matrix of finite numbers"):
            absmax(bad, 4)


def test_the_library_rounds_as_finely_as_ours(weight: torch.Tensor) -> None:
    ours = (absmax(weight, 8, 32).weights() - weight).pow(2).mean().sqrt()
    theirs = (quantization.by_library(weight, "q8_0") - weight).pow(2).mean().sqrt()
    assert float(theirs) == pytest.approx(float(ours), rel=0.05)


def test_a_model_is_itself_again_afterwards() -> None:
    model = training.tiny_phi("0.2M", 300)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    with quantization.quantized(model, lambda w: absmax(w, 2, "matrix").weights()):
        inside = model.model.layers[0].mlp.down_proj.weight.clone()
    assert inside.unique().numel() <= 3
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_the_size_counts_every_weight() -> None:
    model = training.tiny_phi("0.2M", 300)
    assert quantization.megabytes(model, 16) == pytest.approx(2 * model.num_parameters() / 1e6, rel=0.01)
    assert quantization.megabytes(model, 4.5) < quantization.megabytes(model, 8.5) < quantization.megabytes(model, 16)


@pytest.mark.nightly
def test_the_embedded_model_in_another_format_still_answers(card: ModelCard, tmp_path: Path) -> None:
    file = quantization.requantize(sources.gguf(card), tmp_path / "small.gguf", "q4_0")
    assert file.stat().st_size < 100e6
    with open_chat(file) as chat:
        assert "Stockholm" in chat.say("What is the capital of Sweden?", max_new_tokens=12).text


def test_formats_and_files_that_are_none_end_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(InvalidInput, match="no format"):
        quantization.by_library(torch.ones(1, 32), "q3_k")
    with pytest.raises(DamagedFile, match="cannot be read"):
        quantization.requantize(tmp_path / "no.gguf", tmp_path / "out.gguf", "q8_0")
