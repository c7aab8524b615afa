"""From GGUF to safetensors: tiny models of both families written as llama.cpp keeps them, converted, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.errors import DamagedFile, ModelUnavailable, NotEnoughMemory
from helpers.models import convert, gguf_head, local

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 128}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}


def tiny(kind: str, *, tied: bool) -> Any:
    """Random weights in the real class; biases too, where it has them."""
    torch.manual_seed(3)
    stem = convert.CONVERTIBLE[kind].name
    ends = {"bos_token_id": 257, "eos_token_id": 257, "pad_token_id": 257}
    config = getattr(transformers, f"{stem}Config")(vocab_size=258, tie_word_embeddings=tied, **SIZES, **HEADS, **ends)
    model = getattr(transformers, f"{stem}ForCausalLM")(config)
    for name, weights in model.named_parameters():  # the rotary angles, which are none, stay as exact as they are
        weights.data = (weights.data.normal_() if name.endswith("bias") else weights.data).bfloat16()
    return model


def as_gguf(model: Any, file: Path, kind: str, stored: str = "F32", **changed: Any) -> Path:
    """The model as llama.cpp keeps it: its own names, and queries and keys of llama in its own order."""
    config, writer = model.config, GGUFWriter(file, kind)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    for key, value in changed.items():
        writer.add_string(f"{kind}.{key.replace('__', '.')}", value)
    _vocabulary(writer)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weights in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        numbers = weights.float().numpy()
        part = next((part for part in heads if part in name), None)
        if kind == "llama" and part:
            numbers = numbers.reshape(heads[part], 2, -1, *numbers.shape[1:]).swapaxes(1, 2).reshape(numbers.shape)
        form = GGMLQuantizationType[stored if numbers.ndim > 1 else "F32"]
        writer.add_tensor(_original(name), quantize(np.ascontiguousarray(numbers), form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _vocabulary(writer: GGUFWriter) -> None:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*bytes_to_unicode().values(), "ab", "<|im_end|>"])
    writer.add_token_types([TokenType.NORMAL] * 257 + [TokenType.CONTROL])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(257)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")


def _original(name: str) -> str:
    """What llama.cpp calls a tensor of transformers."""
    for ours, theirs in convert.OUTSIDE.items():
        if name.startswith(f"{theirs}."):
            return name.replace(theirs, ours)
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{next(ours for ours, theirs in convert.INSIDE.items() if theirs == part)}.{kind}"


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
    monkeypatch.setattr(convert, "PIECE_BYTES", 20_000)
    monkeypatch.setattr(convert, "NUMBERS_AT_ONCE", 100)
    convert.gguf_to_folder(as_gguf(model, tmp_path / "tiny.gguf", "qwen2"), tmp_path / "made", context=128)
    pieces = sorted((tmp_path / "made").glob("model-*.safetensors"))
    assert len(pieces) > 2
    assert all(piece.stat().st_size < 22_000 for piece in pieces)
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
    model.model.norm.register_buffer("scale", torch.ones(32))
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
