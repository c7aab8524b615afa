"""Two drawings of notebook 02, made from real numbers: an adapter to scale, and a grid to which weights are rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from helpers import plots
from helpers.making import quantization

#: What stays as it is, and what is learnt or chosen.
STILL, CHOSEN = "#8C8C8C", plots.PALETTE[0]


def adapter(rows: int, columns: int, rank: int, *, ax: Axes | None = None) -> Axes:
    """A matrix W of a model and the two thin ones that LoRA sets beside it, B and A, all to scale."""
    ax = ax or plots.panels(1, width=6.6, height=3.0)[0]
    gap = columns / 3
    parts = (
        ("W, frozen", 0.0, rows, columns, STILL),
        ("B", columns + gap, rows, rank, CHOSEN),
        ("A", columns + gap + rank + gap / 2, rank, columns, CHOSEN),
    )
    for name, left, height, width, shade in parts:
        ax.add_patch(Rectangle((left, -height), width, height, facecolor=shade))
        label = f"{name}\n{height:,} × {width:,}\n{height * width:,} numbers"
        ax.annotate(label, (left + width / 2, -height - rows / 25), ha="center", va="top", fontsize=8.5)
    ax.annotate("+", (columns + gap / 2, -rows / 2), ha="center", va="center", fontsize=18)
    ax.set(xlim=(-gap, 2 * columns + 2.2 * gap + rank), ylim=(-1.4 * rows, rows / 20), aspect="equal")
    ax.axis("off")
    return ax


def rounding(weights: Sequence[float], bits: int, sizes: Sequence[int], *, shown: int, ax: Axes | None = None) -> Axes:
    """The first `shown` weights, and the levels to which they go when so many neighbours share a scale.

    One line for each of `sizes`: a tick is a level, a dot a weight, and an arrow goes from the weight to its level.
    """
    import torch

    ax = ax or plots.panels(1, width=6.6, height=2.6)[0]
    row, highest = torch.tensor([list(weights)]), 2 ** (bits - 1) - 1
    for place, size in enumerate(sizes):
        small = quantization.absmax(row, bits, size)
        levels = [level * float(small.scales[0, 0]) for level in range(-highest, highest + 1)]
        ax.plot(levels, [place] * len(levels), "|", color="#666666", markersize=14)
        for weight, level in zip(weights[:shown], small.weights()[0].tolist(), strict=False):
            arrow: dict[str, Any] = {"arrowstyle": "->", "color": CHOSEN, "linewidth": 1}
            ax.annotate("", (level, place), (weight, place + 0.32), arrowprops=arrow)
            ax.plot(weight, place + 0.32, "o", color=CHOSEN, markersize=5)
    reach = 4 * max(abs(weight) for weight in weights[:shown])
    ax.set(xlim=(-reach, reach), ylim=(-0.5, len(sizes) - 0.3), xlabel="weight")
    ax.set_yticks(range(len(sizes)), [f"{size} weights\nshare a scale" for size in sizes])
    ax.grid(visible=False)
    return ax
