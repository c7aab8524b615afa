"""A learner's own model, opened by its path: safetensors, one GGUF file, or a folder for ONNX or OpenVINO."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from helpers import catalog
from helpers.errors import BackendUnavailable, DamagedFile, InvalidInput
from helpers.models import gguf_head
from helpers.records import ModelCard, Shape


def is_path(model: str | Path) -> bool:
    """Whether `model` names a place on this disk rather than a model of the catalog.

    >>> is_path("C:/models/mine"), is_path("microsoft/Phi-3.5-mini-instruct")
    (True, False)
    """
    text = str(model)
    placed = text.startswith((".", "/", "~")) or "\\" in text or text[1:3] == ":/"  # a drive of Windows
    return isinstance(model, Path) or text.endswith(".gguf") or placed


def card_of(model: str | Path) -> ModelCard:
    """The card of a model by its name in the catalog, or of one on this disk by its path."""
    return card_of_path(Path(model)) if is_path(model) else catalog.card(str(model))


def card_of_path(path: Path) -> ModelCard:
    """The card of a model on this disk: its size counted from the file, its context from its config."""
    path = path.expanduser().resolve()
    if not path.exists():
        raise InvalidInput(f"There is nothing at {path}.", "Look for a slip in the path, or give its whole length.")
    modalities: tuple[str, ...] = ("text",)
    shape: Shape | None
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


#: Tensors of older folders that are no weights: masks, positions and angles that the class makes anew.
_BUFFERS = (".attn.bias", ".attention.bias", ".masked_bias", ".inv_freq", "position_ids", ".attn_bias")
#: The matrix from the last layer to the vocabulary; a model whose file has none uses the embedding's.
_HEADS = ("lm_head.weight", "embed_out.weight")
_NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")


def _folder(path: Path) -> tuple[int, Shape | None, str, tuple[str, ...]]:
    from safetensors import SafetensorError, safe_open

    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise InvalidInput(f"{path} has no .safetensors files; other formats could run code while they are read.")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        sizes: dict[str, int] = {}
        for file in files:
            with safe_open(file, framework="numpy") as tensors:
                sizes |= {name: math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        # A model that sees describes its decoder apart.
        text = config.get("text_config", config)
        apart = any(name.endswith(_HEADS) for name in sizes)
        tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", not apart))
        unused = _BUFFERS + _HEADS if tied else _BUFFERS
        parameters = sum(size for name, size in sizes.items() if not name.endswith(unused))
        modalities = ("text", "image") if "vision_config" in config else ("text",)
        return parameters, _shape(text, tied=tied), config["model_type"], modalities
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} cannot be read as a model: {error}", "Save or fetch it again.") from error


def _shape(text: dict[str, Any], *, tied: bool) -> Shape | None:
    """The shape that a config describes; None where even transformers' class for it lacks one of its numbers."""
    if not all(text.get(name) for name in (*_NEEDED, "intermediate_size")):
        text = _by_class(text)
    if not all(text.get(name) for name in _NEEDED):
        return None
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    own = text.get("head_dim")
    shared = text.get("num_kv_heads") if text.get("new_decoder_architecture") else text.get("multi_query")  # Falcon
    inner = next(
        (text[name] for name in ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size") if text.get(name)), 0
    )
    return Shape(
        layers=text["num_hidden_layers"],
        hidden=hidden,
        ffn=inner or 4 * hidden,  # what GPT-2 and its like mean by leaving it out
        heads=heads,
        kv_heads=int(text.get("num_key_value_heads") or shared or heads),
        vocabulary=text["vocab_size"],
        context=text["max_position_embeddings"],
        window=text.get("sliding_window") if text.get("use_sliding_window", True) else None,
        tied_embeddings=tied,
        experts=text.get("num_local_experts") or text.get("num_experts") or 1,
        experts_per_token=text.get("num_experts_per_tok") or 1,
        head_size=own if own and own * heads != hidden else None,
    )


def _by_class(text: dict[str, Any]) -> dict[str, Any]:
    """A config with the names that all classes share, and its class's defaults: GPT-2 writes n_embd and n_layer."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if text.get("model_type") not in CONFIG_MAPPING:
        return text
    try:
        config = CONFIG_MAPPING[text["model_type"]].from_dict(text)
    except StrictDataclassError as error:
        raise ValueError(f"its config.json does not fit its model_type: {error}") from error
    names = (*_NEEDED, "intermediate_size", "num_key_value_heads", "head_dim", "multi_query")
    return text | {name: getattr(config, name, None) for name in names}


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
        if shape is None:
            raise ValueError("its config names no layers, heads or context")
        head = shape.head_size or shape.hidden // shape.heads
        attention = 2 * shape.hidden * head * (shape.heads + shape.kv_heads)
        layer = attention + 3 * shape.hidden * shape.ffn * shape.experts + 2 * shape.hidden
        tables = shape.vocabulary * shape.hidden * (1 if shape.tied_embeddings else 2)
        return shape.layers * layer + tables + shape.hidden, shape, config["model_type"]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedFile(f"{path} cannot be read as an OpenVINO folder: {error}", "Fetch it again.") from error


def _gguf(path: Path) -> tuple[int, Shape | None]:
    """The numbers that a GGUF file holds, and its shape: its head is read, not its vocabulary and weights."""
    head = gguf_head.read_head(path)
    kind = head.values.get("general.architecture")

    def values(key: str) -> list[int]:
        """One number for each layer; a file that has the same for all writes it once."""
        found = head.values.get(f"{kind}.{key}") or 0
        numbers = found if isinstance(found, list) else [found]
        if not numbers or not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise DamagedFile(f"{path.name} has {found!r} as its {key}, where a number is meant.", "Fetch it again.")
        return numbers

    # Angles that some files bring along are no parameters.
    parameters = sum(math.prod(t.shape) for name, t in head.tensors.items() if not name.startswith("rope_"))
    layers, hidden, context = (values(key)[0] for key in ("block_count", "embedding_length", "context_length"))
    heads = max(values("attention.head_count"))
    if not (layers and hidden and context):
        raise InvalidInput(
            f"{path.name} holds no language model: it calls itself {kind!r}, and names no layers or no context.",
            "Give the model's own file; one with mmproj or lora in its name only adds to a model.",
        )
    if not heads:  # a state-space model, whose shape is another
        return parameters, None
    kv_heads, own = values("attention.head_count_kv"), values("attention.key_length")[0]
    return parameters, Shape(
        layers=layers,
        hidden=hidden,
        ffn=max(values("feed_forward_length")),
        heads=heads,
        kv_heads=max(kv_heads) or heads,
        vocabulary=head.counts.get("tokenizer.ggml.tokens", 0),
        context=context,
        tied_embeddings="output.weight" not in head.tensors,
        experts=values("expert_count")[0] or 1,
        experts_per_token=values("expert_used_count")[0] or 1,
        head_size=own if own and own * heads != hidden else None,
        kv_heads_by_layer=tuple(kv_heads) if len(kv_heads) > 1 else (),
    )
