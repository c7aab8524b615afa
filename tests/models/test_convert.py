"""From GGUF to safetensors: tiny models of both families written as llama.cpp keeps them, converted, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.errors import DamagedFile, ModelUnavailable, NotEnoughMemory
from helpers.models import convert, gguf_head, local
from tiny_gguf import as_gguf, tiny


@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("llama", False), ("qwen2", True), ("qwen2", False)])
def test_the_folder_is_the_model_that_the_file_was_made_of(tmp_path: Path, kind: str, tied: bool) -> None:
    model = tiny(kind, tied=tied)
    convert.gguf_to_folder(as_gguf(model, tmp_path / "tiny.gguf", kind), tmp_path / "made", context=128)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "made", dtype=torch.bfloat16)
    assert type(loaded) is type(model)
    assert loaded.config.tie_word_embeddings == tied
    assert {n: w.tolist() for n, w in loaded.state_dict().items()} == {
        n: w.tolist() for n, w in model.state_dict().items()
    }
    ids = torch.arange(1, 20)[None]  # the rotary base and the norm's epsilon are the same too
    assert (loaded(ids).logits - model(ids).logits).abs().max() == 0
    assert local.card_of_path(tmp_path / "made").parameters == sum(weights.numel() for weights in model.parameters())


@pytest.mark.parametrize("stored", ["F16", "Q8_0", "Q4_1", "Q5_0"])
def test_weights_in_blocks_are_unpacked_as_the_format_says(tmp_path: Path, stored: str) -> None:
    model, form = tiny("qwen2", tied=True), GGMLQuantizationType[stored]
    convert.gguf_to_folder(as_gguf(model, tmp_path / "tiny.gguf", "qwen2", stored), tmp_path / "made", context=128)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "made", dtype=torch.bfloat16).state_dict()
    name = "model.layers.1.mlp.down_proj.weight"
    rounded = dequantize(quantize(model.state_dict()[name].float().numpy(), form), form)
    assert torch.equal(loaded[name], torch.from_numpy(rounded).to(torch.bfloat16))


def test_a_large_model_is_written_in_pieces_and_loads_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("qwen2", tied=False)
    monkeypatch.setattr(convert, "PIECE_BYTES", 40_000)
    monkeypatch.setattr(convert, "NUMBERS_AT_ONCE", 100)
    convert.gguf_to_folder(as_gguf(model, tmp_path / "tiny.gguf", "qwen2"), tmp_path / "made", context=128)
    pieces = sorted((tmp_path / "made").glob("model-*.safetensors"))
    assert len(pieces) > 2
    assert all(piece.stat().st_size < 42_000 for piece in pieces)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "made", dtype=torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    assert convert.is_whole(tmp_path / "made", source_sha256=convert.sha256(tmp_path / "tiny.gguf"))


def test_the_tokenizer_knows_its_end_and_its_context(tmp_path: Path) -> None:
    file = as_gguf(tiny("llama", tied=True), tmp_path / "tiny.gguf", "llama")
    convert.gguf_to_folder(file, tmp_path / "made", context=128)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert (tokenizer.eos_token, tokenizer.model_max_length) == ("<|im_end|>", 128)
    assert tokenizer("ab<|im_end|>")["input_ids"] == [256, 257]
    assert tokenizer.chat_template.startswith("{% for m in messages %}")


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [("phi3", {}, "llama and qwen2"), ("llama", {"rope__scaling__type": "yarn"}, "without scaled positions")],
)
def test_another_family_is_refused_in_a_sentence(tmp_path: Path, kind: str, changed: dict[str, Any], said: str) -> None:
    file = as_gguf(tiny("llama", tied=True), tmp_path / "tiny.gguf", kind, **changed)
    with pytest.raises(ModelUnavailable, match=rf"{said}(.|\n)*backend='llamacpp'"):
        convert.gguf_to_folder(file, tmp_path / "made", context=128)


def test_a_tensor_that_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    model = tiny("llama", tied=True)
    model.model.norm.register_buffer("scale", torch.ones(64))
    file = as_gguf(model, tmp_path / "tiny.gguf", "llama")
    with pytest.raises(DamagedFile, match=r"output_norm\.scale"):
        convert.gguf_to_folder(file, tmp_path / "made", context=128)


def test_weights_that_are_cut_short_are_a_sentence(tmp_path: Path) -> None:
    file = as_gguf(tiny("qwen2", tied=True), tmp_path / "tiny.gguf", "qwen2")
    last = max(tensor.start for tensor in gguf_head.read_head(file).tensors.values())
    file.write_bytes(file.read_bytes()[: last + 8])
    with pytest.raises(DamagedFile, match="could not be converted"):
        convert.gguf_to_folder(file, tmp_path / "made", context=128)


def test_too_little_memory_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = as_gguf(tiny("qwen2", tied=True), tmp_path / "tiny.gguf", "qwen2")
    monkeypatch.setattr("helpers.machine.free_memory_gib", lambda: 0.1)
    with pytest.raises(NotEnoughMemory, match=r"Unpacking tiny\.gguf needs"):
        convert.gguf_to_folder(file, tmp_path / "made", context=128)
    assert not (tmp_path / "made").exists()
