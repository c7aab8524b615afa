"""Seconds to load the converted folder ÷ seconds to load the plain GGUF, both by transformers, in the same run.

python -m benchmarks.load_time [--repeats 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from benchmarks.report import report
from helpers import catalog
from helpers.intervals import Spread
from helpers.models import sources


def seconds(load: Callable[[], Any]) -> float:
    started = time.perf_counter()
    load()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    card = catalog.card("smollm2-135m")
    gguf, folder = sources.gguf(card), sources.folder(card)

    def from_folder() -> None:
        # Through the course's own way, so that checking the hashes is counted too.
        path = sources.folder(card)
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
        AutoTokenizer.from_pretrained(path)

    def from_gguf() -> None:
        file = {"gguf_file": gguf.name}
        blocks = GgufConfig(dequantize=True)
        AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, quantization_config=blocks, **file)
        AutoTokenizer.from_pretrained(gguf.parent, **file)

    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)  # imports and disk cache, not measured
    pairs = [(seconds(from_folder), seconds(from_gguf)) for _ in range(repeats)]
    report(
        "load_time",
        folder_to_gguf_load=Spread.of([a / b for a, b in pairs]),
        folder_seconds=Spread.of([a for a, _ in pairs]),
        gguf_seconds=Spread.of([b for _, b in pairs]),
    )


if __name__ == "__main__":
    main()
