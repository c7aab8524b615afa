"""An encoder of BERT's form (Devlin et al. 2019, arXiv:1810.04805), in torch's own layers, from its publisher's file.

transformers has it too, and takes four seconds to import: longer than an encoder of 23 million parameters takes for a
thousand passages. A folder's config.json says the sizes, and model.safetensors holds the weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

#: What torch calls a part of a layer, and what BERT's file does. Queries, keys and values are one matrix in torch.
LAYER_PARTS = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
TABLES_OF_BERT = {"word": "word_embeddings", "position": "position_embeddings", "segment": "token_type_embeddings"}


class Bert(nn.Module):
    """Token ids and their mask, each (texts, tokens), to states, (texts, tokens, size)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.size, eps = config["hidden_size"], config["layer_norm_eps"]
        self.word = nn.Embedding(config["vocab_size"], self.size)
        self.position = nn.Embedding(config["max_position_embeddings"], self.size)
        self.segment = nn.Embedding(config["type_vocab_size"], self.size)
        self.norm = nn.LayerNorm(self.size, eps)
        form = {"activation": config["hidden_act"], "layer_norm_eps": eps, "dropout": 0.0, "batch_first": True}
        layer = nn.TransformerEncoderLayer(
            self.size, config["num_attention_heads"], config["intermediate_size"], **form
        )
        self.stack = nn.TransformerEncoder(layer, config["num_hidden_layers"], enable_nested_tensor=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The state of each token after the last layer; all text is of the first segment."""
        read = self.word(ids) + self.position.weight[: ids.shape[1]] + self.segment.weight[0]
        return self.stack(self.norm(read), src_key_padding_mask=mask == 0)


def load_bert(folder: Path) -> Bert:
    """The encoder in a folder, in 32 bits."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    file = load_file(folder / "model.safetensors")
    state = {f"{ours}.weight": file[f"embeddings.{theirs}.weight"] for ours, theirs in TABLES_OF_BERT.items()}
    for end in ("weight", "bias"):
        state[f"norm.{end}"] = file[f"embeddings.LayerNorm.{end}"]
        for number in range(config["num_hidden_layers"]):
            ours, theirs = f"stack.layers.{number}", f"encoder.layer.{number}"
            parts = [file[f"{theirs}.attention.self.{part}.{end}"] for part in ("query", "key", "value")]
            state[f"{ours}.self_attn.in_proj_{end}"] = torch.cat(parts)
            state |= {f"{ours}.{part}.{end}": file[f"{theirs}.{name}.{end}"] for part, name in LAYER_PARTS.items()}
    with torch.device("meta"):  # no random numbers are drawn for weights that the file has
        model = Bert(config)
    model.load_state_dict({name: numbers.float() for name, numbers in state.items()}, assign=True)
    return model.eval()
