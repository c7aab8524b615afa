"""Seconds that open_chat takes ÷ seconds that raw xllamacpp takes to open the same file, in the same run.

python -m benchmarks.open_time [--model smollm2-135m --model my.gguf …] [--repeats 7]
"""

from __future__ import annotations

import argparse
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xllamacpp

from benchmarks.helper_overhead import raw_server
from benchmarks.report import report
from helpers import catalog
from helpers.chat import open_chat
from helpers.intervals import Spread
from helpers.models import local, sources


def seconds(opened: Callable[[], Any]) -> float:
    """How long opening takes; what was opened is gone when this returns, so that the next finds the same memory."""
    started = time.perf_counter()
    model = opened()
    took = time.perf_counter() - started
    if isinstance(model, xllamacpp.Server):  # closed before its loop runs, it would wait for ever
        with urllib.request.urlopen(f"{model.listening_address}/slots"):
            pass
    del model
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="a name of the catalog or a GGUF file; may be given again")
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    for model in asked.model or ["smollm2-135m"]:
        file = Path(model) if local.is_path(model) else sources.gguf(catalog.card(model))
        ways = {"ours": lambda: open_chat(model, "llamacpp"), "raw": lambda: raw_server(str(file))}  # noqa: B023
        pairs: list[dict[str, float]] = []
        for repeat in range(asked.repeats + 1):
            # Side by side, so that a slow moment meets both, and in turns, so that none is always the second.
            order = ("ours", "raw") if repeat % 2 else ("raw", "ours")
            pairs.append({way: seconds(ways[way]) for way in order})
        kept = pairs[1:]  # the first brings the file into memory
        report(
            f"open_time {file.name}",
            helper_to_raw_open=Spread.of([pair["ours"] / pair["raw"] for pair in kept]),
            helper_seconds=Spread.of([pair["ours"] for pair in kept]),
            raw_seconds=Spread.of([pair["raw"] for pair in kept]),
        )


if __name__ == "__main__":
    main()
