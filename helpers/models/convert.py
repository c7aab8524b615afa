"""From a GGUF file to the folder of safetensors that transformers loads in a second.

Transformers reads a GGUF itself, but unpacks it anew at every load and, for SmolLM2, forgets that its tokenizer
splits numbers into digits. So the file is converted once: weights unpacked to bfloat16, tokenizer mended, saved.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.errors import DamagedFile
from helpers.models.files import sha256

#: Part of the manifest: a folder that an older recipe made is made again.
RECIPE = 1
MANIFEST = "manifest.json"


def gguf_to_folder(source: Path, folder: Path, *, context: int) -> None:
    """Writes `source` as a folder of bf16 safetensors with its tokenizer and a manifest of hashes."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    where, name = str(source.parent), source.name
    with _quietly():
        # Without dequantize the model keeps GGUF blocks, which save_pretrained cannot write.
        model = AutoModelForCausalLM.from_pretrained(
            where, gguf_file=name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        tokenizer = _tokenizer(source)
        tokenizer.model_max_length = context
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_manifest(folder, source_sha256=sha256(source))


def tokenizer_to_folder(source: Path, folder: Path) -> None:
    """Writes the tokenizer and the chat template of a GGUF file as transformers keeps them."""
    with _quietly():
        _tokenizer(source).save_pretrained(folder)


def _tokenizer(source: Path) -> Any:
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    cut = GGUFReader(source).fields.get("tokenizer.ggml.pre")
    if cut is not None and cut.contents() == "smollm":
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
        return all(sha256(folder / name) == digest for name, digest in manifest["files"].items())
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
