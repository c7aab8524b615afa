"""Measured decode rate ÷ the rate that memory bandwidth alone would allow, in three precisions, in the same run.

python -m benchmarks.roofline [--repeats 5]
"""

from __future__ import annotations

import argparse

from benchmarks.report import report
from helpers import anatomy, catalog, plots
from helpers.chat import open_chat
from helpers.intervals import Spread
from helpers.measure import memory_bandwidth
from helpers.models import sources

PROMPT = "Tell me a long story about a small river."
SETTINGS = (("transformers", "fp32"), ("transformers", "bf16"), ("llamacpp", "q4_1"))


def rates(backend: str, precision: str, repeats: int) -> list[float]:
    with open_chat("smollm2-135m", backend=backend, precision=precision, max_new_tokens=48) as chat:
        found = []
        for _ in range(repeats + 1):
            chat.reset()
            found.append(chat.say(PROMPT).decode_tokens_per_second or 0.0)
        return found[1:]  # the first warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--figure", help="also draw the figure of the README into this file")
    asked = parser.parse_args()
    card = catalog.card("smollm2-135m")
    bandwidth = memory_bandwidth(repeats=asked.repeats)
    figures, points = {"bandwidth_gb_per_second": bandwidth.times(1e-9)}, []
    for backend, precision in SETTINGS:
        file_bytes = sources.gguf(card).stat().st_size if backend == "llamacpp" else None
        read = anatomy.bytes_per_token(card, "bf16" if file_bytes else precision, 64, file_bytes=file_bytes)
        predicted = anatomy.predicted_decode(read, bandwidth.median)
        measured = Spread.of(rates(backend, precision, asked.repeats))
        figures[f"{precision}_tokens_per_second"] = measured
        figures[f"{precision}_measured_to_predicted"] = measured.times(1 / predicted)
        points.append(point(card.name, backend, precision, predicted, measured))
    if asked.figure:
        axes = plots.predicted_vs_measured(points)
        axes.set_title("SmolLM2-135M: fewer bits, more tokens")
        axes.figure.savefig(asked.figure, dpi=160, bbox_inches="tight")
    report("roofline", **figures)


def point(model: str, backend: str, precision: str, predicted: float, measured: Spread) -> dict[str, object]:
    """A row for the plot of predicted against measured rates."""
    return {
        "model": model,
        "backend": backend,
        "precision": precision,
        "predicted_tokens_per_second": predicted,
        "measured_tokens_per_second": measured.median,
        "low": measured.low,
        "high": measured.high,
    }


if __name__ == "__main__":
    main()
