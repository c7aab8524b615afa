"""A learner's own model, opened by its path: safetensors, one GGUF file, or a folder for ONNX or OpenVINO."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from helpers.errors import BackendUnavailable, DamagedFile, InvalidInput
from helpers.records import ModelCard, Shape


def is_path(model: str | Path) -> bool:
    """Whether `model` names a place on this disk rather than a model of the catalog."""
    text = str(model)
    return isinstance(model, Path) or text.endswith(".gguf") or text.startswith((".", "/", "~")) or "\\" in text


def card(path: Path) -> ModelCard:
    """The card of a model on this disk: its size counted from the file, its context from its config."""
    path = path.expanduser().resolve()
    modalities: tuple[str, ...] = ("text",)
    if path.is_file() and path.suffix == ".gguf":
        parameters, shape = _gguf(path)
        kind = None
    elif (path / "genai_config.json").is_file():
        parameters, shape, kind, modalities = _onnx(path)
    elif (path / "openvino_model.xml").is_file():
        parameters, shape, kind = _openvino(path)
    elif (path / "config.json").is_file():
        parameters, shape, kind, modalities = _folder(path)
    else:
        raise InvalidInput(
            f"{path} is neither a GGUF file nor a folder with a config.json.",
            "Give the folder that save_pretrained wrote, one with a genai_config.json or an openvino_model.xml, "
            "a .gguf file, or a name of the catalog.",
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
        modalities=modalities,
        model_type=kind,
        path=str(path),
    )


def _folder(path: Path) -> tuple[int, Shape, str, tuple[str, ...]]:
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
        # A model that sees describes its decoder apart.
        shape = _shape(config.get("text_config", config), tied=config.get("tie_word_embeddings", False))
        modalities = ("text", "image") if "vision_config" in config else ("text",)
        return parameters, shape, config["model_type"], modalities
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedFile(f"{path} cannot be read as a model: {error}", "Save or fetch it again.") from error


def _shape(text: dict[str, Any], *, tied: bool) -> Shape:
    return Shape(
        layers=text["num_hidden_layers"],
        hidden=text["hidden_size"],
        ffn=text["intermediate_size"],
        heads=text["num_attention_heads"],
        kv_heads=text.get("num_key_value_heads") or text["num_attention_heads"],
        vocabulary=text["vocab_size"],
        context=text["max_position_embeddings"],
        window=text.get("sliding_window"),
        tied_embeddings=tied,
        experts=text.get("num_local_experts", 1),
        experts_per_token=text.get("num_experts_per_tok", 1),
    )


def _onnx(path: Path) -> tuple[int, Shape, str, tuple[str, ...]]:
    """A folder of ONNX Runtime GenAI: its weights are counted in its graphs, where four bits are packed in bytes."""
    try:
        model = json.loads((path / "genai_config.json").read_text(encoding="utf-8"))["model"]
        parts = [part["filename"] for part in model.values() if isinstance(part, dict) and "filename" in part]
        sizes: dict[str, int] = {}
        for name in parts:
            sizes |= _onnx_weights(path / name)
        decoder = model["decoder"]
        ffn = next((n // decoder["hidden_size"] for weight, n in sizes.items() if ".down_proj." in weight), 0)
        shape = Shape(
            layers=decoder["num_hidden_layers"],
            hidden=decoder["hidden_size"],
            ffn=ffn,
            heads=decoder["num_attention_heads"],
            kv_heads=decoder["num_key_value_heads"],
            vocabulary=model["vocab_size"],
            context=model["context_length"],
            tied_embeddings=not any("embed_tokens" in weight for weight in sizes),
        )
        return sum(sizes.values()), shape, model["type"], ("text", "image") if "vision" in model else ("text",)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path} cannot be read as an ONNX folder: {error}", "Fetch it again.") from error


def _onnx_weights(graph: Path) -> dict[str, int]:
    """The number of weights in each tensor of a graph; scales, zero points and tables of angles are none."""
    try:
        from onnx import TensorProto, load
    except ImportError as error:
        raise BackendUnavailable(
            "An ONNX folder is opened with the package onnx.", "Run: python3 course.py lab --engines"
        ) from error
    try:
        found = load(str(graph), load_external_data=False).graph
    except Exception as error:  # its reader has errors of its own
        raise ValueError(f"{graph.name} is cut short, or no ONNX graph") from error
    bits = {  # of the packed weights, which are these nodes' second input
        node.input[1]: next(a.i for a in node.attribute if a.name == "bits")
        for node in found.node
        if node.op_type == "MatMulNBits"
    }
    plain = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    sizes = {}
    for tensor in found.initializer:
        if tensor.name in bits:
            sizes[tensor.name] = math.prod(tensor.dims) * 8 // bits[tensor.name]
        elif tensor.data_type in plain and not tensor.name.endswith(("_scales", "_cache", "_zero_points")):
            sizes[tensor.name] = math.prod(tensor.dims)
    return sizes


def _openvino(path: Path) -> tuple[int, Shape, str]:
    """A folder of OpenVINO GenAI: its weights are counted from the shapes in the config that came with it."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        shape = _shape(config, tied=config.get("tie_word_embeddings", False))
        head = shape.hidden // shape.heads
        attention = 2 * shape.hidden * head * (shape.heads + shape.kv_heads)
        layer = attention + 3 * shape.hidden * shape.ffn * shape.experts + 2 * shape.hidden
        tables = shape.vocabulary * shape.hidden * (1 if shape.tied_embeddings else 2)
        return shape.layers * layer + tables + shape.hidden, shape, config["model_type"]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedFile(f"{path} cannot be read as an OpenVINO folder: {error}", "Fetch it again.") from error


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
