"""Random weights in SmolLM2's class and vocabulary, two layers thin."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def tiny_llama(*, seed: int = 0) -> Any:
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=2,
        initializer_range=0.2,  # or attention would hardly matter
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()
