"""A model in the form that an engine computes from, made once from the form in which it came.

ONNX Runtime GenAI opens a folder with an ONNX graph, which its builder writes from a transformers folder; int4 and int8
weights are rounded on the way. OpenVINO GenAI reads a GGUF file itself, but takes seconds to unpack it and to compile
the graph for this processor; both results are kept. MLX loads a folder of tensors in its own layout, in bf16 or
quantized. Each folder has a manifest of hashes: a damaged one is made again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from helpers.errors import BackendUnavailable, DamagedFile, NotEnoughDisk
from helpers.machine import require_memory
from helpers.models import convert, gguf_head, sources
from helpers.models.files import home, make_once, remove
from helpers.records import ModelCard

#: Bytes that a weight of the ONNX folder takes on disk, scales and a 32-bit embedding table with it.
ONNX_PRECISIONS = {"int4": 0.8, "int8": 2.1, "fp32": 4.2}
#: The same for OpenVINO, for each byte of the GGUF file: the unpacked weights, and once more in the compiled model.
OPENVINO_BYTES = 3.0
#: Bytes of memory that unpacking and compiling take, for each byte of the GGUF file: 3.2 GiB for one of 491 MB.
OPENVINO_MEMORY = 7
#: The formats that OpenVINO reads in a GGUF file. Others are written anew in 8 bits, which keeps what
#: they hold: Q4_K_M stores in Q5_0 what does not fill its blocks of 256.
OPENVINO_READS = ("F32", "F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K")
#: How OpenVINO computes. Without paged attention: its cache of earlier prompts changes answers from run to run. In
#: fp32: with bf16, which it would take where the processor has it, near-ties fall otherwise on other machines.
OPENVINO_OPTIONS = {"ATTENTION_BACKEND": "SDPA", "INFERENCE_PRECISION_HINT": "f32"}
#: Bytes of memory that the builder takes for each weight, measured; and what it takes for any model.
BUILDER_BYTES, BUILDER_BASE = 10, 500_000_000
#: Bits of one weight for MLX; those below 16 are integers in groups that share a scale and an offset of 16 bits each.
EXPORT_BITS = {"bf16": 16.0, "int8": 8.5, "int4": 4.5}
GROUP = 64


def onnx(card: ModelCard, precision: str) -> Path:
    """The folder that ONNX Runtime GenAI opens, built when it is not here yet or is damaged (10 s for 135M weights)."""
    # The embedded model's files are known by their hash, so they are looked at only where they are needed.
    state = f"{card.gguf.sha256} {convert.RECIPE}" if card.gguf else _folder_state(sources.folder(card))
    made_from = _key(state, f"onnxruntime-genai {version('onnxruntime-genai')} {precision}")
    return make_once(
        _place(card, f"onnx-{precision}"),
        lambda part: _build_onnx(card, sources.folder(card), part, precision, made_from),
        lambda made: convert.is_whole(made, source_sha256=made_from),
        size=2 * _onnx_bytes(card, precision),  # the builder writes a cache beside
        what=f"{card.title} as an ONNX folder in {precision}",
    )


def onnx_default(card: ModelCard) -> str:
    """The precision in which a model is built for ONNX where nobody says which.

    Four bits, but not on top of a file of 4 to 8 bits: of Qwen2.5-Coder-0.5B's, rounding again raised the perplexity of
    the fixed text from 64 to 79 and lost plain answers, where 8 bits lost none.
    """
    return "int8" if card.gguf and card.gguf.precision == "q4_k_m" else "int4"


def _onnx_bytes(card: ModelCard, precision: str) -> int:
    """About what the folder takes of disk; an embedding table that is no output matrix too stays in 32 bits."""
    table = 0
    if card.shape and card.numbers > card.parameters:
        table = 4 * card.shape.vocabulary * card.shape.hidden
    return int(card.numbers * ONNX_PRECISIONS[precision]) + table


def openvino(card: ModelCard) -> Path:
    """The folder that OpenVINO GenAI opens, made from the GGUF file when it is not here yet or is damaged."""
    state = f"{card.gguf.sha256} {convert.RECIPE}" if card.gguf else _file_state(sources.gguf(card))
    made_from = _key(state, f"openvino-genai {version('openvino-genai')}", repr(OPENVINO_OPTIONS))
    return make_once(
        _place(card, "openvino"),
        lambda part: _unpack_for_openvino(card, sources.gguf(card), part, made_from),
        lambda made: convert.is_whole(made, source_sha256=made_from),
        size=int(gguf_bytes(card) * OPENVINO_BYTES),
        what=f"{card.title} for OpenVINO",
    )


def _place(card: ModelCard, form: str) -> Path:
    own = f"-{_key(card.path)[:8]}" if card.path else ""  # two folders of a learner may have the same name
    return home() / "engines" / f"{card.name}{own}-{form}"


def _key(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()


def _file_state(file: Path) -> str:
    """What tells a file from a later one in its place, without reading gigabytes."""
    found = file.stat()
    return f"{file.name} {found.st_size} {found.st_mtime_ns}"


def gguf_bytes(card: ModelCard) -> int:
    """The size of the model's GGUF file."""
    return card.gguf.bytes if card.gguf else sources.gguf(card).stat().st_size


def _folder_state(folder: Path) -> str:
    return "\n".join(_file_state(file) for file in sorted(folder.iterdir()) if file.suffix in (".safetensors", ".json"))


def _build_onnx(card: ModelCard, source: Path, part: Path, precision: str, made_from: str) -> None:
    """Runs the builder in a process of its own: what it takes of memory is free again afterwards."""
    from tqdm import tqdm

    require_memory(card.numbers * BUILDER_BYTES + BUILDER_BASE, f"Building {card.title} as an ONNX folder")
    scratch = part.with_name(f"{part.name}.cache")
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", "", "-i", str(source), "-o", str(part)]
    command += ["-p", precision, "-e", "cpu", "-c", str(scratch), "--extra_options", "hf_remote=false"]
    said: list[str] = []
    layers = card.shape.layers if card.shape else None
    try:
        bar = tqdm(total=layers, desc=f"{card.title} → ONNX {precision}", unit="layer", leave=False)
        with bar, _running(command) as lines:
            for line in lines:
                said = [*said[-40:], line]
                bar.update(line.startswith("Reading layer"))
    except subprocess.CalledProcessError as error:
        raise _builder_failed(card, "".join(said)) from error
    finally:
        remove(scratch)
    convert.write_manifest(part, source_sha256=made_from)


@contextmanager
def _running(command: list[str]) -> Iterator[Iterator[str]]:
    """The lines that a command says, as it says them; it ends with the block, whatever ends that."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", env=environment
    ) as child:
        try:
            assert child.stdout is not None
            yield iter(child.stdout.readline, "")
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def _builder_failed(card: ModelCard, said: str) -> Exception:
    last = said.strip().rpartition("\n")[2]
    if "No space left" in said or "Errno 28" in said:
        return NotEnoughDisk(
            f"The disk became full while {card.title} was built; nothing was kept.", "Free some space."
        )
    if "ModuleNotFoundError" in said or "ImportError" in said:
        return BackendUnavailable(
            f"The builder of ONNX Runtime GenAI is not installed whole: {last}.", "Run: python3 course.py lab --engines"
        )
    return BackendUnavailable(
        f"The builder of ONNX Runtime GenAI cannot build {card.title}: {last}.",
        "Open it with another backend, or give a folder that already has a genai_config.json.",
    )


def _unpack_for_openvino(card: ModelCard, source: Path, part: Path, made_from: str) -> None:
    """Lets OpenVINO read the GGUF file, write its own form, and compile that once for this processor."""
    import openvino_genai
    from tqdm import tqdm

    require_memory(OPENVINO_MEMORY * source.stat().st_size, f"Unpacking {card.title} for OpenVINO")
    part.mkdir()
    copy = part / "model.gguf"  # OpenVINO writes beside the file that it reads
    _readable_by_openvino(source, copy)
    try:
        with tqdm(total=3, desc=f"{card.title} → OpenVINO", unit="step", leave=False) as bar:
            convert.tokenizer_to_folder(source, part)  # OpenVINO's own reading lacks what the course mends
            bar.update()
            openvino_genai.LLMPipeline(str(copy), "CPU", enable_save_ov_model=True, **OPENVINO_OPTIONS)
            copy.unlink()
            bar.update()
            openvino_genai.LLMPipeline(str(part), "CPU", CACHE_DIR=str(part), **OPENVINO_OPTIONS)
            bar.update()
    except (RuntimeError, IndexError) as error:
        raise DamagedFile(
            f"OpenVINO cannot read {source.name}: {reason(error)}.",
            "It reads GGUF files of llama, qwen2 and qwen3; open others with backend='llamacpp'.",
        ) from error
    convert.write_manifest(part, source_sha256=made_from)


def _readable_by_openvino(source: Path, copy: Path) -> None:
    """The file itself under another name, or one like it in formats that OpenVINO's reader knows."""
    from gguf import GGMLQuantizationType as Kind

    reads = {Kind[name] for name in OPENVINO_READS}
    if all(tensor.kind in reads for tensor in gguf_head.read_head(source).tensors.values()):
        try:
            os.link(source, copy)
        except OSError:
            shutil.copyfile(source, copy)
        return
    convert.rewrite(source, copy, lambda _, t: Kind(t.kind) if t.kind in reads else Kind.Q8_0, "MOSTLY_Q8_0")


def reason(error: Exception) -> str:
    """The last line of what an engine says of its failure; the lines before it name places in its own sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"


def converted(card: ModelCard, source: Path, precision: str) -> Path:
    """The folder of MLX weights, made from a transformers folder when it is not here yet or is damaged."""
    made_from = _key(_folder_state(source))
    return make_once(
        _place(card, f"mlx-{precision}"),
        lambda part: _convert(source, part, precision, card.title, made_from),
        lambda made: convert.is_whole(made, source_sha256=made_from),
        size=int(card.numbers * EXPORT_BITS[precision] / 8),
        what=f"{card.title} for MLX in {precision}",
    )


def _convert(source: Path, folder: Path, precision: str, title: str, made_from: str) -> None:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.utils import load_model, save_config, save_model
    from tqdm import tqdm

    with tqdm(total=3, desc=f"{title} for MLX", unit="step", leave=False) as progress:
        try:
            model, config = load_model(source, lazy=True)
        except ValueError as error:  # its word for a class that it lacks
            raise BackendUnavailable(f"mlx-lm has no class for {title}: {error}") from error
        model.set_dtype(mx.bfloat16)
        progress.update()
        if precision != "bf16":
            config["quantization"] = {"group_size": GROUP, "bits": int(EXPORT_BITS[precision])}
            nn.quantize(model, **config["quantization"])
        progress.update()
        save_model(folder, model)
        save_config(config, folder / "config.json")
        convert.write_manifest(folder, source_sha256=made_from)
        progress.update()
