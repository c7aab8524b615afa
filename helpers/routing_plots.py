"""Pictures of routing: which expert does how much of what, and a text coloured by the experts of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from helpers import plots
from helpers.errors import InvalidInput

#: Eight colours that people with any kind of colour vision tell apart: Okabe and Ito's palette with its yellow.
EXPERTS = (*plots.PALETTE, "#F0E442")
#: A character of the text, in inches: the width of DejaVu Sans Mono at 8 points, and the height of a line.
CHARACTER, LINE = 8 * 0.602 / 72, 0.19
COLUMNS = 88


def heat(table: Iterable[Mapping[str, Any]], *, value: str = "share", label: str = "", ax: Axes | None = None) -> Axes:
    """A row for each layer and kind of text, a column for each expert; the darker, the more. Numbers are percent.

    Any other column than `share` is written as it is, and coloured from blue below zero to red above.
    """
    rows = list(table)
    names = sorted(dict.fromkeys((row["layer"], row["kind"]) for row in rows), key=lambda name: name[0])
    experts = 1 + max(row["expert"] for row in rows)
    cells = {(row["layer"], row["kind"], row["expert"]): row[value] for row in rows}
    grid = [[cells[layer, kind, expert] for expert in range(experts)] for layer, kind in names]
    if ax is None:
        plots.use_theme()
        ax = plt.subplots(figsize=(6, 0.24 * len(names) + 0.9), layout="constrained")[1]
    share, largest = value == "share", max(abs(cell) for line in grid for cell in line)
    ax.imshow(grid, aspect="auto", cmap="Blues" if share else "RdBu_r", vmin=0 if share else -largest, vmax=largest)
    for y, line in enumerate(grid):
        for x, cell in enumerate(line):
            shade = "white" if abs(cell) > 0.6 * largest else "#222222"
            text = f"{100 * cell:.0f}" if share else f"{round(cell, 2) + 0:.2f}"  # + 0 makes -0.00 plain
            ax.text(x, y, text, ha="center", va="center", fontsize=7.5, color=shade)
    kinds = len({kind for _, kind in names})
    for boundary in range(kinds, len(names), kinds):
        ax.axhline(boundary - 0.5, color="white", linewidth=3)
    ax.set_xticks(range(experts), [str(expert) for expert in range(experts)])
    ax.set_yticks(range(len(names)), [f"layer {layer}, {kind}" for layer, kind in names])
    ax.set(xlabel="expert", title=label or ("% of the layer's work on this kind of text" if share else ""))
    ax.grid(visible=False)
    return ax


def coloured_text(pieces: Sequence[str], experts: Sequence[int], *, title: str = "", ax: Axes | None = None) -> Axes:
    """The text of `pieces`, one a token, each on the colour of its expert. A token is never cut at a line's end."""
    if len(pieces) != len(experts):
        raise InvalidInput(f"{len(pieces)} tokens cannot be coloured by {len(experts)} experts.")
    if experts and max(experts) >= len(EXPERTS):
        raise InvalidInput(f"There are colours for {len(EXPERTS)} experts only.", "Look at fewer experts at a time.")
    placed, lines = _placed(pieces)
    if ax is None:
        plots.use_theme()
        ax = plt.subplots(figsize=(COLUMNS * CHARACTER, (lines + 2.4) * LINE))[1]
        ax.figure.subplots_adjust(0, 0, 1, 1)
    for expert in sorted(set(experts)):  # a legend in a line of its own, above the text
        ax.add_patch(Rectangle((10 * expert, -1.5), 9, 0.9, color=EXPERTS[expert], alpha=0.5, linewidth=0))
        ax.text(10 * expert + 0.5, -1.05, f"expert {expert}", fontsize=7, va="center")
    for n, text, column, line in placed:
        shade = EXPERTS[experts[n]]
        ax.add_patch(Rectangle((column, line), len(text) - 0.1, 0.92, color=shade, alpha=0.5, linewidth=0))
        shown = text.replace("$", r"\$")  # matplotlib would read a formula
        ax.text(column, line + 0.5, shown, family="DejaVu Sans Mono", fontsize=8, va="center")
    ax.set(xlim=(0, COLUMNS), ylim=(lines, -2.4))
    ax.text(0, -2.0, title, fontsize=9, va="center")
    ax.axis("off")
    return ax


def _placed(pieces: Sequence[str]) -> tuple[list[tuple[int, str, int, int]], int]:
    """Each visible part of a token with its token's number, column and line; and how many lines there are."""
    placed, column, line = [], 0, 0
    for n, piece in enumerate(pieces):
        for is_break, group in groupby(piece, key=lambda c: c == "\n"):
            text = "".join(group)
            if is_break:
                column, line = 0, line + len(text)
                continue
            if column and column + len(text) > COLUMNS:
                column, line = 0, line + 1
            placed.append((n, text, column, line))
            column += len(text)
    return placed, line + 1
