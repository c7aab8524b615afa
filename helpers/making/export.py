"""A model of one's own on disk: as a folder, and as one GGUF file for llama.cpp, Ollama and most desktop programs.

The GGUF file holds everything: the shape, the tokenizer with its merges, the chat template, the weights. Tensor names
and keys are those of the library `gguf`, the specification's own (github.com/ggml-org/ggml, docs/gguf.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.errors import DamagedFile, InvalidInput
from helpers.models.files import make_once, plain_disk_errors, written_whole


def save_model(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Writes the folder that `open_chat` opens: safetensors, config, tokenizer with its chat template.

    The folder appears whole or not at all.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # a model that fits here is written before a bar is read
    with plain_disk_errors(folder.parent, "the model"), written_whole(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return folder


def to_gguf(folder: Path, target: Path) -> Path:
    """The folder that `save_model` wrote, as a GGUF file in 16 bits; `requantize` makes it smaller.

    Serves the course's own models: class phi3, a byte-level tokenizer with one token a digit. Llama-like models would
    need their heads reordered, and have llama.cpp's own converter.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        kind, size = config["model_type"], (folder / "model.safetensors").stat().st_size
    except FileNotFoundError as error:
        raise InvalidInput(f"{folder.name} is no folder that save_model wrote.", "Train and save a model.") from error
    except (ValueError, KeyError) as error:
        raise DamagedFile(f"{folder.name} cannot be read as a model: {error}", "Save it again.") from error
    if kind != "phi3" or tokenizer["model"]["type"] != "BPE":
        raise InvalidInput(f"Only models trained in this course are exported here, not {kind}.")

    def good(path: Path) -> bool:
        newer = path.is_file() and path.stat().st_mtime >= (folder / "config.json").stat().st_mtime
        return newer and path.stat().st_size > 0

    return make_once(target, lambda part: _write(folder, part, config, tokenizer), good, size=size, what=target.name)


def _write(folder: Path, target: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    from gguf import GGUFWriter, LlamaFileType

    writer = GGUFWriter(target, "phi3")
    writer.add_name(folder.name)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    _add_shape(writer, config)
    _add_tokenizer(writer, folder, config, tokenizer)
    _add_weights(writer, folder / "model.safetensors", config["num_hidden_layers"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base((config.get("rope_parameters") or config)["rope_theta"])
    writer.add_sliding_window(config.get("sliding_window") or 0)
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: Any, folder: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    from gguf import TokenType

    special = {entry["id"] for entry in tokenizer["added_tokens"] if entry["special"]}
    vocabulary = tokenizer["model"]["vocab"] | {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")  # one token a digit, then bytes: what train_tokenizer does
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if vocabulary[t] in special else TokenType.NORMAL for t in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))


def _add_weights(writer: Any, path: Path, layers: int) -> None:
    import gguf
    import numpy as np
    from safetensors.torch import load_file

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.PHI3, layers)
    for name, tensor in load_file(path).items():
        # Norms stay in 32 bits: they are few, and llama.cpp computes with them so.
        dtype = np.float32 if tensor.ndim == 1 else np.float16
        stored = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(stored, tensor.float().numpy().astype(dtype))
