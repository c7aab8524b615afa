"""What a model is made of, and what follows from it: parameters, memory, arithmetic, speed.

Parameters are counted on transformers' own classes on the meta device, where a tensor has a shape and no values, so
that a model of 42 billion parameters is counted in a second without a download. The rest is arithmetic.

A decoder makes one token at a time and reads every weight that the token passes through from memory each time. It
does two operations a weight, which is far less than a processor can do while the weight arrives. So its speed for
one user is, at best, memory bandwidth ÷ bytes read a token: the roofline (Williams, Waterman and Patterson 2009).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import catalog
from helpers.errors import InvalidInput
from helpers.records import ModelCard, Shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Bits a weight. int8 and int4 are the bare numbers; the names with a Q are llama.cpp's block formats with their
#: scales: Q8_0, Q4_0 and Q4_1 share one fp16 scale (Q4_1 also a minimum) among 32 weights, Q4_K and Q6_K use
#: blocks of 256. Source: block_q8_0 and its neighbours in ggml/src/ggml-common.h of llama.cpp.
PRECISION_BITS: Mapping[str, float] = {
    **{"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "int4": 4},
    **{"Q8_0": 8.5, "Q6_K": 6.5625, "Q4_K": 4.5, "Q4_1": 5.0, "Q4_0": 4.5},
}

#: The first of these that occurs in a parameter's name says which part it belongs to.
PARTS = (
    ("embed_tokens", "embeddings"),
    ("lm_head", "head"),
    ("norm", "norms"),
    ("self_attn", "attention"),
    ("router", "router"),
    ("experts", "experts"),
    ("mlp", "feed-forward"),
)


@dataclass(frozen=True, slots=True)
class Count:
    """The parameters of a model: `total`, those `active` for one token, and how they divide into parts."""

    total: int
    active: int
    by_part: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Device:
    """What a maker states of a device: bytes a second, GiB, and operations a second in `peak_format`, if stated."""

    name: str
    title: str
    kind: str
    bandwidth: float
    memory_gib: float
    source: str
    peak: float | None = None
    peak_format: str | None = None
    note: str = ""


#: Stated hardware by name, from small to large: raspberry-pi-5, phone, laptop, apple-m4, t4, rtx-4090, a100, h100.
DEVICES: Mapping[str, Device] = {
    entry["name"]: Device(**entry)
    for entry in tomllib.loads(Path(__file__).with_name("devices.toml").read_text(encoding="utf-8"))["devices"]
}


def skeleton(model: str | ModelCard) -> PreTrainedModel:
    """The model on the meta device: every layer with its shape, and no weights.

    The card's shape decides every size of its config, which lacks the scaling of positions.
    """
    import torch
    import transformers

    c = _card(model)
    stems = {"phi3": "Phi3", "phimoe": "Phimoe", "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}
    stem = stems.get(c.model_type or "")
    if stem is None:
        raise InvalidInput(
            f"{c.title} is no text decoder that transformers has a class for, so its parts cannot be counted here.",
            f"Its card says {c.parameters:,} parameters ({c.basis}).",
        )
    shape = _shape(c)
    values: dict[str, Any] = {
        **{"vocab_size": shape.vocabulary, "tie_word_embeddings": shape.tied_embeddings},
        **{"hidden_size": shape.hidden, "intermediate_size": shape.ffn, "num_hidden_layers": shape.layers},
        **{"num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads},
        "max_position_embeddings": shape.context,
    }
    if shape.head_size:
        values["head_dim"] = shape.head_size
    if c.model_type not in ("llama", "qwen2"):
        values["sliding_window"] = shape.window
    if c.model_type == "phimoe":  # its published config sets both biases; they are 359,744 of its parameters
        experts = {"num_local_experts": shape.experts, "num_experts_per_tok": shape.experts_per_token}
        values |= {"attention_bias": True, "lm_head_bias": True, **experts}
    with torch.device("meta"):
        config = getattr(transformers, f"{stem}Config")(**values)
        built: PreTrainedModel = getattr(transformers, f"{stem}ForCausalLM")(config)
    return built


def parameters(model: str | ModelCard) -> Count:
    """The exact parameter count of a model of the catalog that transformers has a class for.

    `active` is what one token passes through: all parameters, less the experts that its router leaves out. The
    embeddings are counted whole in both, as Microsoft's "6.6B active parameters" of Phi-3.5-MoE does. A matrix that
    serves as embedding and head (tied) is counted once, among the embeddings.

    >>> parameters("phi-3.5-moe").active
    6640999744
    """
    return count(skeleton(model))


def count(model: PreTrainedModel) -> Count:
    """The same count of a model at hand, one that was just trained, say."""
    by_part: dict[str, int] = {}
    for name, tensor in model.named_parameters():
        part = next(part for fragment, part in PARTS if fragment in name)
        by_part[part] = by_part.get(part, 0) + tensor.numel()
    total, experts = sum(by_part.values()), getattr(model.config, "num_local_experts", 1)
    idle = by_part.get("experts", 0) * (experts - getattr(model.config, "num_experts_per_tok", 1)) // experts
    return Count(total, total - idle, by_part)


def memory_bytes(parameters: int, precision: str = "bf16") -> int:
    """The bytes that this many weights take up in one precision. The cache and the work space come on top."""
    return round(parameters * _bits(precision) / 8)


def kv_cache_bytes(model: str | ModelCard, tokens: int, bytes_per_value: float = 2) -> int:
    """The bytes of keys and values that a conversation of this many tokens keeps; bf16 by default.

    Two vectors (key and value) of `kv_heads` heads in every layer for every token. A model with a sliding window
    keeps the window only.
    """
    shape = _shape(_card(model))
    kept = min(tokens, shape.window) if shape.window else tokens
    heads = sum(shape.kv_heads_by_layer) or shape.layers * shape.kv_heads
    return round(2 * heads * _head_size(shape) * kept * bytes_per_value)


def flops_per_token(model: str | ModelCard) -> int:
    """The operations that one more token costs, attention to what stands before it left out.

    Two, multiply and add, for every weight that the token is multiplied by (Kaplan et al. 2020, section 2.1).
    """
    return 2 * multiplied_parameters(model)


def multiplied_parameters(model: str | ModelCard) -> int:
    """The active parameters that a token is multiplied by, which are also those read from memory for it.

    The input embedding is no multiplication: one row is looked up. The head is one, and is used whole; where the
    two are tied, the matrix counts because of the head. For a model that also sees or hears this includes its
    encoders, which a text token does not pass.
    """
    c = _card(model)
    if c.shape is None or c.shape.tied_embeddings:
        return c.active_parameters
    return c.active_parameters - c.shape.vocabulary * c.shape.hidden


def training_hours(flops: float, device_flops: float, utilisation: float = 0.4) -> float:
    """The hours that one device takes for so many operations.

    `device_flops` is its peak a second. `utilisation` is the share of it that training reaches: 0.46 for PaLM and 0.21
    for GPT-3 (Chowdhery et al. 2022, table 3).
    """
    return flops / (device_flops * utilisation) / 3600


def bytes_per_token(
    model: str | ModelCard, precision: str = "bf16", context: int = 0, *, file_bytes: int | None = None
) -> int:
    """The bytes read from memory to make one token: the weights it is multiplied by, and the bf16 KV cache.

    With `file_bytes`, the size of a model file in a mixed precision, the weights are that file's; of a file without
    tied embeddings the share of the input embedding is left out, as if all its weights had the same precision.
    """
    c = _card(model)
    weights = memory_bytes(multiplied_parameters(c), precision)
    if file_bytes is not None:
        weights = round(file_bytes * multiplied_parameters(c) / c.active_parameters)
    return weights + (kv_cache_bytes(c, context) if context else 0)


def predicted_decode(bytes_read_per_token: float, bandwidth_bytes_per_second: float) -> float:
    """The most tokens a second that this memory lets one user have: the roofline of decoding."""
    return bandwidth_bytes_per_second / bytes_read_per_token


def _card(model: str | ModelCard) -> ModelCard:
    return model if isinstance(model, ModelCard) else catalog.card(model)


def _shape(c: ModelCard) -> Shape:
    if c.shape is None:
        raise InvalidInput(
            f"The shape of {c.title} is not published, so this cannot be worked out.", "Take a model with a shape."
        )
    return c.shape


def _head_size(shape: Shape) -> int:
    return shape.head_size or shape.hidden // shape.heads


def _bits(precision: str) -> float:
    if precision not in PRECISION_BITS:
        raise InvalidInput(f"{precision!r} is no precision known here.", f"Take one of {', '.join(PRECISION_BITS)}.")
    return PRECISION_BITS[precision]
