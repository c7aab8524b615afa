"""From a transformers folder to the folder that MLX loads: tensors in its layout, in bf16 or quantized, made once."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from helpers import conversion, files
from helpers.errors import BackendUnavailable
from helpers.records import ModelCard

#: Bits of one weight; those below 16 are integers in groups that share a scale and an offset of 16 bits each.
BITS = {"bf16": 16.0, "int8": 8.5, "int4": 4.5}
GROUP = 64


def converted(card: ModelCard, source: Path, precision: str) -> Path:
    """The folder of MLX weights, made from a transformers folder when it is not here yet or is damaged."""
    origin = _origin(source)
    return files.make_once(
        files.home() / f"{card.name}-mlx-{precision}",
        lambda part: _convert(source, part, precision, card.title, origin),
        lambda made: conversion.is_whole(made, source_sha256=origin),
        size=int(card.parameters * BITS[precision] / 8),
        what=f"{card.title} for MLX in {precision}",
    )


def _convert(source: Path, folder: Path, precision: str, title: str, origin: str) -> None:
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
            config["quantization"] = {"group_size": GROUP, "bits": int(BITS[precision])}
            nn.quantize(model, **config["quantization"])
        progress.update()
        save_model(folder, model)
        save_config(config, folder / "config.json")
        conversion.write_manifest(folder, source_sha256=origin)
        progress.update()


def _origin(source: Path) -> str:
    """What tells one folder's weights from another's, and from a later training in the same place."""
    stats = [(file.name, file.stat()) for file in sorted(source.iterdir()) if file.suffix in (".safetensors", ".json")]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return sha256(repr(facts).encode()).hexdigest()
