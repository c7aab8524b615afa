"""From a GGUF file to the folder of safetensors that transformers loads in a second.

Transformers reads a GGUF itself, but unpacks it anew at every load, holds all of it while it does, and, for SmolLM2,
forgets that its tokenizer splits numbers into digits. So the file is converted once, tensor by tensor: weights unpacked
to bfloat16 and renamed, tokenizer mended, saved in pieces that no machine is too small for.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.errors import DamagedFile, ModelUnavailable
from helpers.machine import require_memory
from helpers.models import gguf_head
from helpers.models.files import is_file_with, sha256
from helpers.models.gguf_head import Head, Tensor

#: Part of the manifest: a folder that an older recipe made is made again.
RECIPE = 1
MANIFEST = "manifest.json"
#: Bytes of weights in one file. A model that fits in one keeps the name that transformers gives it.
PIECE_BYTES = 512_000_000
#: How many numbers are unpacked at once: as 32 bits with their scales beside them they take several times the room.
NUMBERS_AT_ONCE = 4_000_000
#: Bytes of memory that unpacking takes beside the piece at hand: 1.04 GB were measured in all, torch with them.
UNPACKING_BYTES = 600_000_000


#: The kinds of models that are converted, and how transformers calls them.
CONVERTIBLE = {"llama": "Llama", "qwen2": "Qwen2"}
#: The matrices whose rows llama.cpp puts in another order, since its rotary embedding turns neighbouring numbers and
#: that of transformers the two halves of a head.
INTERLEAVED = {"llama": ("attn_q", "attn_k")}
#: What llama.cpp calls the parts of a model, and what transformers calls them, in both families.
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INSIDE = {
    **{f"attn_{short}": f"self_attn.{short}_proj" for short in "qkv"},
    **{f"ffn_{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def gguf_to_folder(source: Path, folder: Path, *, context: int) -> None:
    """Writes `source` as a folder of bf16 safetensors with its tokenizer and a manifest of hashes."""
    from transformers import GenerationConfig

    head = gguf_head.read_head(source)
    largest = 2 * max(math.prod(tensor.shape) for tensor in head.tensors.values())
    require_memory(max(largest, PIECE_BYTES) + UNPACKING_BYTES, f"Unpacking {source.name}")
    folder.mkdir()
    with _quietly():
        config = _config(head, context)
        config.save_pretrained(folder)
        GenerationConfig.from_model_config(config).save_pretrained(folder)
        _weights(source, head, folder)
        tokenizer = _tokenizer(source, head)
        tokenizer.model_max_length = context
        tokenizer.save_pretrained(folder)
    write_manifest(folder, source_sha256=sha256(source))


def _config(head: Head, context: int) -> Any:
    """The config that transformers would have found beside the weights."""
    import torch
    import transformers

    kind = head.values["general.architecture"]
    if kind not in CONVERTIBLE or head.values.get(f"{kind}.rope.scaling.type", "none") != "none":
        raise ModelUnavailable(
            f"The course converts GGUF of {' and '.join(CONVERTIBLE)} without scaled positions; this is {kind!r}.",
            "Open it with backend='llamacpp'.",
        )
    value = {key.removeprefix(f"{kind}."): value for key, value in head.values.items()}
    name, heads = CONVERTIBLE[kind], value["attention.head_count"]
    config = getattr(transformers, f"{name}Config")(
        architectures=[f"{name}ForCausalLM"],
        vocab_size=head.counts["tokenizer.ggml.tokens"],
        hidden_size=value["embedding_length"],
        intermediate_size=value["feed_forward_length"],
        num_hidden_layers=value["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=value.get("attention.head_count_kv", heads),
        max_position_embeddings=context,
        rms_norm_eps=value["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_theta": value.get("rope.freq_base", 10_000.0), "rope_type": "default"},
        tie_word_embeddings="output.weight" not in head.tensors,
        bos_token_id=value.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=value.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=value.get("tokenizer.ggml.padding_token_id"),
    )
    config.dtype = torch.bfloat16
    return config


def _weights(source: Path, head: Head, folder: Path) -> None:
    """Writes every tensor in bf16, under transformers' name; one piece at a time is in memory."""
    from safetensors.torch import save_file
    from tqdm import tqdm

    pieces = list(_pieces(head))
    places: dict[str, str] = {}
    with tqdm(total=len(head.tensors), desc=f"{source.name} → bf16", unit="tensor", leave=False) as bar:
        for number, names in enumerate(pieces, start=1):
            piece = {}
            for name in names:
                piece[_renamed(name)] = _unpacked(source, head, name)
                bar.update()
            file = f"model-{number:05}-of-{len(pieces):05}.safetensors" if len(pieces) > 1 else "model.safetensors"
            save_file(piece, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(piece, file)
    if len(pieces) > 1:
        size = 2 * sum(math.prod(tensor.shape) for tensor in head.tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _pieces(head: Head) -> Iterator[list[str]]:
    """The tensors' names, as many together as one file holds."""
    names: list[str] = []
    size = 0
    for name, tensor in head.tensors.items():
        more = 2 * math.prod(tensor.shape)
        if names and size + more > PIECE_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += more
    yield names


def _renamed(name: str) -> str:
    """A tensor's name in transformers.

    >>> _renamed("blk.3.attn_q.bias"), _renamed("token_embd.weight")
    ('model.layers.3.self_attn.q_proj.bias', 'model.embed_tokens.weight')
    """
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if layer and layer[2] in INSIDE:
        return f"model.layers.{layer[1]}.{INSIDE[layer[2]]}.{layer[3]}"
    part, _, kind = name.rpartition(".")
    if part not in OUTSIDE or kind != "weight":
        raise ValueError(f"it holds a tensor {name}, which the course does not know")
    return f"{OUTSIDE[part]}.{kind}"


def _unpacked(source: Path, head: Head, name: str) -> Any:
    """One tensor in bf16, its rows in transformers' order."""
    import torch

    tensor = head.tensors[name]
    width, rows = tensor.shape[0], math.prod(tensor.shape[1:])
    numbers, start = torch.empty((rows, width), dtype=torch.bfloat16), 0
    for piece in _pieces_of(source, tensor):
        numbers[start : start + len(piece)] = torch.from_numpy(_numbers(piece, tensor))
        start += len(piece)
    architecture, part = head.values["general.architecture"], name.split(".")[-2]
    if part in INTERLEAVED.get(architecture, ()):
        which = "head_count_kv" if part == "attn_k" else "head_count"
        heads = head.values[f"{architecture}.attention.{which}"]
        numbers = numbers.reshape(heads, -1, 2, width).transpose(1, 2)
    return numbers.reshape(tensor.shape[::-1]).contiguous()


def _pieces_of(source: Path, tensor: Tensor) -> Iterator[Any]:
    """The rows of a tensor as they are stored, some at a time: bytes, (rows, bytes of a row)."""
    import numpy as np
    from gguf import GGMLQuantizationType

    rows = math.prod(tensor.shape[1:])
    stored = np.memmap(
        source, np.uint8, "r", tensor.start, (rows, _row_bytes(tensor, GGMLQuantizationType(tensor.kind)))
    )
    step = max(1, NUMBERS_AT_ONCE // tensor.shape[0])
    for start in range(0, rows, step):
        yield np.array(stored[start : start + step])  # a copy, since torch warns of memory that is not ours


def _numbers(piece: Any, tensor: Tensor) -> Any:
    """Stored rows as 32-bit numbers."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    return dequantize(piece, GGMLQuantizationType(tensor.kind))


def _row_bytes(tensor: Tensor, kind: Any) -> int:
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[kind]
    return int(tensor.shape[0] // block * size)


def rewrite(source: Path, target: Path, wanted: Callable[[str, Tensor], Any], file_type: str) -> None:
    """Writes a GGUF file like `source` with each tensor in the format that `wanted` gives for it.

    `wanted` takes a tensor's name and what the head tells of it, and returns a GGMLQuantizationType; `file_type` is
    llama.cpp's name for the whole, such as "MOSTLY_Q8_0". What was rounded before stays rounded. Keys and values are
    copied as bytes: the library gguf makes an object of each token of the vocabulary, which takes longer than the rest.
    """
    from gguf.quants import quantize

    head = gguf_head.read_head(source)
    alignment = head.values.get("general.alignment", 32)
    forms = {name: wanted(name, tensor) for name, tensor in head.tensors.items()}
    with target.open("wb") as file:
        file.write(_head_of_copy(source, head, forms, file_type, alignment))
        for name, tensor in head.tensors.items():
            file.write(bytes(-file.tell() % alignment))
            for piece in _pieces_of(source, tensor):
                same = forms[name] == tensor.kind
                file.write((piece if same else quantize(_numbers(piece, tensor), forms[name])).tobytes())
        file.write(bytes(-file.tell() % alignment))


def _head_of_copy(source: Path, head: Head, forms: dict[str, Any], file_type: str, alignment: int) -> bytes:
    """The head of a GGUF file (version 3) with the source's keys and values, and its tensors in other formats."""
    from gguf import GGUFValueType, LlamaFileType

    def text(written: str) -> bytes:
        return struct.pack("<Q", len(written.encode())) + written.encode()

    own = text("general.file_type") + struct.pack("<II", GGUFValueType.UINT32, LlamaFileType[file_type])
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        kept = [data[begin:end] for key, (begin, end) in head.pairs.items() if key != "general.file_type"]
    begins, start = [], 0
    for name, tensor in head.tensors.items():
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        begins.append(text(name) + shape + struct.pack("<IQ", forms[name], start))
        start += _row_bytes(tensor, forms[name]) * math.prod(tensor.shape[1:])
        start += -start % alignment
    counts = struct.pack("<4sIQQ", b"GGUF", 3, len(begins), len(kept) + 1)
    whole = counts + b"".join([*kept, own, *begins])
    return whole + bytes(-len(whole) % alignment)


def tokenizer_to_folder(source: Path, folder: Path) -> None:
    """Writes the tokenizer and the chat template of a GGUF file as transformers keeps them."""
    with _quietly():
        _tokenizer(source, gguf_head.read_head(source)).save_pretrained(folder)


def _tokenizer(source: Path, head: Head) -> Any:
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    if head.values.get("tokenizer.ggml.pre") == "smollm":
        # What this word stands for in llama.cpp: one token a digit, then bytes.
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    return tokenizer


def write_manifest(folder: Path, *, source_sha256: str) -> None:
    """Records the hash of every file of the folder, so that damage is noticed later."""
    files = {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}
    manifest = {"recipe": RECIPE, "source_sha256": source_sha256, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def is_whole(folder: Path, *, source_sha256: str) -> bool:
    """Whether the folder was made from that source by today's recipe and every file still has its hash."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if (manifest["recipe"], manifest["source_sha256"]) != (RECIPE, source_sha256):
            return False
        files = [(folder / name, digest) for name, digest in manifest["files"].items()]
        return all(is_file_with(file, digest, file.stat().st_size) for file, digest in files)
    except (OSError, ValueError, KeyError):
        return False


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Transformers' advice off, and its failures as a sentence; its progress bar stays."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the disk's refusals have their own sentences
        raise DamagedFile(f"The GGUF file could not be converted: {error}") from error
    finally:
        logging.set_verbosity(level)
