"""Tiny random models of the families that the course converts, and such a model as a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize

from helpers.models import convert

SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 128}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}


def tiny(kind: str, *, tied: bool) -> Any:
    """Random weights in the real class; biases too, where it has them."""
    torch.manual_seed(3)
    stem = convert.CONVERTIBLE[kind]
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
    writer.add_tokenizer_pre("qwen2")
    writer.add_bos_token_id(257)
    writer.add_pad_token_id(257)
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
