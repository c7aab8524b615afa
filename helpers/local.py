"""A learner's own model: a folder of safetensors or one GGUF file, opened by its path."""

from __future__ import annotations

import json
import math
from pathlib import Path

from helpers.errors import DamagedFile, InvalidInput
from helpers.records import ModelCard, Shape


def is_path(model: str | Path) -> bool:
    """Whether `model` names a place on this disk rather than a model of the catalog."""
    text = str(model)
    return isinstance(model, Path) or text.endswith(".gguf") or text.startswith((".", "/", "~")) or "\\" in text


def card(path: Path) -> ModelCard:
    """The card of a model on this disk: its size counted from the file, its context from its config."""
    path = path.expanduser().resolve()
    if path.is_file() and path.suffix == ".gguf":
        parameters, shape, kind = *_gguf(path), None
    elif (path / "config.json").is_file():
        parameters, shape, kind = _folder(path)
    else:
        raise InvalidInput(
            f"{path} is neither a GGUF file nor a folder with a config.json.",
            "Give the folder that save_pretrained wrote, a .gguf file, or a name of the catalog.",
        )
    return ModelCard(
        name=path.name,
        title=path.name,
        family="own",
        publisher="you",
        released="",
        licence="",
        parameters=parameters,
        active_parameters=parameters,
        basis="computed",
        source=str(path),
        shape=shape,
        model_type=kind,
        path=str(path),
    )


def _folder(path: Path) -> tuple[int, Shape, str]:
    from safetensors import SafetensorError, safe_open

    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise InvalidInput(f"{path} has no .safetensors files; other formats could run code while they are read.")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        parameters = 0
        for file in files:
            with safe_open(file, framework="numpy") as tensors:
                parameters += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        shape = Shape(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            ffn=config["intermediate_size"],
            heads=config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            window=config.get("sliding_window"),
            tied_embeddings=config.get("tie_word_embeddings", False),
            experts=config.get("num_local_experts", 1),
            experts_per_token=config.get("num_experts_per_tok", 1),
        )
        return parameters, shape, config["model_type"]
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedFile(f"{path} cannot be read as a model: {error}", "Save or fetch it again.") from error


def _gguf(path: Path) -> tuple[int, Shape]:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        kind = reader.fields["general.architecture"].contents()

        def value(key: str, default: int | None = None) -> int:
            entry = reader.fields.get(f"{kind}.{key}")
            return int(entry.contents()) if entry else int(default or 0)

        shape = Shape(
            layers=value("block_count"),
            hidden=value("embedding_length"),
            ffn=value("feed_forward_length"),
            heads=value("attention.head_count"),
            kv_heads=value("attention.head_count_kv", value("attention.head_count")),
            vocabulary=len(reader.fields["tokenizer.ggml.tokens"].data),
            context=value("context_length"),
            experts=value("expert_count", 1),
            experts_per_token=value("expert_used_count", 1),
        )
        return sum(int(tensor.n_elements) for tensor in reader.tensors), shape
    except (ValueError, KeyError, IndexError) as error:
        raise DamagedFile(f"{path} cannot be read as a GGUF file: {error}", "Fetch it again.") from error
