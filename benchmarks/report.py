"""The one JSON line that every benchmark ends with: its figures, their spread, the machine."""

from __future__ import annotations

import json
from dataclasses import asdict

from helpers import machine
from helpers.intervals import Spread


def report(benchmark: str, **figures: Spread) -> None:
    """Prints the figures for a reader, then all of it as one line of JSON."""
    for name, spread in figures.items():
        print(f"{name}: {spread}")
    rounded = {
        name: {key: float(f"{value:.4g}") for key, value in asdict(spread).items()} for name, spread in figures.items()
    }
    print(json.dumps({"benchmark": benchmark, "figures": rounded, "machine": str(machine.describe())}))
