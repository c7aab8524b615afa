"""What a benchmark leaves: one JSON line with its figures, their spread and the machine, or rows stored for a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers import machine
from helpers.intervals import Spread
from helpers.models.files import written_whole


def report(benchmark: str, **figures: Spread) -> None:
    """Prints the figures for a reader, then all of it as one line of JSON."""
    for name, spread in figures.items():
        print(f"{name}: {spread}")
    rounded = {
        name: {key: float(f"{value:.4g}") for key, value in asdict(spread).items()} for name, spread in figures.items()
    }
    print(json.dumps({"benchmark": benchmark, "figures": rounded, "machine": str(machine.describe())}))


def keep(path: Path, content: Mapping[str, Any]) -> None:
    """Writes what is stored for a page, the entries of a list a line each; whole or not at all."""
    parts = [f" {json.dumps(name)}: {_text(value)}" for name, value in content.items()]
    with written_whole(path) as draft:
        draft.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _text(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in value) + "\n ]"
