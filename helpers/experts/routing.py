"""What the routers of a mixture of experts do: which tokens go to which experts, and what if one were gone.

A router is one small matrix in each layer: its product with a token's state gives a logit for each expert, and the
highest two decide. Statistics are taken by listening to the routers of a `PhimoeForCausalLM` while it reads; two
pictures show them, as each expert's share of the work and as a text coloured by the experts of its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from math import exp, log
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from helpers import plots
from helpers.errors import InvalidInput

if TYPE_CHECKING:
    import torch


#: An expert with less than this part of an even share is as good as dead.
DEAD = 0.1
RoutingRow = dict[str, Any]
#: Eight colours that people with any kind of colour vision tell apart: Okabe and Ito's palette with its yellow.
EXPERTS = (*plots.PALETTE, "#F0E442")
#: A character of the text, in inches: the width of DejaVu Sans Mono at 8 points, and the height of a line with numbers.
CHARACTER, LINE = 8 * 0.602 / 72, 0.25
MAP_WIDTH = 88


@dataclass(frozen=True, slots=True)
class Routes:
    """Where tokens went: `experts` and `weights` are layers × tokens × 2, the first choice first."""

    experts: torch.Tensor
    weights: torch.Tensor


def routers(model: Any) -> list[Any]:
    """The router of each layer, from the first to the last."""
    found = [layer.mlp.router for layer in model.model.layers if hasattr(layer.mlp, "router")]
    if not found:
        raise InvalidInput(
            f"{type(model).__name__} is no mixture of experts, so it has no router to look at.",
            "Open a PhimoeForCausalLM, such as tiny_moe(Size()).",
        )
    return found


def routes(model: Any, ids: torch.Tensor) -> Routes:
    """Where each token of `ids`, a row of tokens or several, is sent in each layer, outside training."""
    import torch

    heard: list[list[Any]] = [[] for _ in routers(model)]
    hooks = [
        router.register_forward_hook(lambda _, __, out, place=place: place.append((out[2].cpu(), out[1].cpu())))
        for router, place in zip(routers(model), heard, strict=True)
    ]
    training = model.training
    try:
        model.eval()
        with torch.inference_mode():
            for part in torch.atleast_2d(ids).to(model.device).split(8):
                model(input_ids=part, use_cache=False)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    experts, weights = (torch.stack([torch.cat([call[n] for call in layer]) for layer in heard]) for n in (0, 1))
    return Routes(experts, weights)


def shares(found: Routes, experts: int) -> torch.Tensor:
    """The share of a layer's work that each expert does, layers × experts: every layer sums to 1."""
    import torch

    one_hot = torch.nn.functional.one_hot(found.experts, experts)
    return one_hot.flatten(1, 2).float().mean(1)


def use(model: Any, parts: Mapping[str, torch.Tensor], *, rows: int = 16, length: int = 128) -> list[RoutingRow]:
    """One row a layer, kind of text and expert: its `share` of that layer's work on that kind.

    As much is read of each kind, in stretches spread evenly over its tokens.
    """
    import torch

    found = []
    for kind, ids in parts.items():
        if len(ids) <= length:
            raise InvalidInput(f"{len(ids)} tokens of {kind} are fewer than one stretch of {length}.")
        starts = torch.linspace(0, len(ids) - length - 1, rows).long()[:, None]
        part = shares(routes(model, ids[starts + torch.arange(length)]), routers(model)[0].num_experts)
        for layer, values in enumerate(part.tolist()):
            found += [{"layer": layer, "kind": kind, "expert": n, "share": share} for n, share in enumerate(values)]
    return found


def balance(table: Iterable[Mapping[str, Any]]) -> list[RoutingRow]:
    """One row a layer, all kinds together: how evenly the experts work, and how well they tell the kinds apart.

    `busiest` is in even shares: 1 is perfect balance, and half the number of experts the worst, as a token takes no
    expert twice. `dead` counts experts with under a tenth of an even share. `effective` is how many equally busy
    experts would be as varied, exp(entropy).
    `tells_kind` is how often an expert's number gives away the kind of text, if one guesses its most frequent kind.
    """
    rows = list(table)
    found = []
    for layer in sorted({row["layer"] for row in rows}):
        by_expert: dict[int, list[float]] = {}
        for row in rows:
            if row["layer"] == layer:
                by_expert.setdefault(row["expert"], []).append(row["share"])
        kinds = len(by_expert[0])
        means = [sum(by_kind) / kinds for by_kind in by_expert.values()]
        found.append(
            {
                "layer": layer,
                "busiest": max(means) * len(means),
                "dead": sum(mean * len(means) < DEAD for mean in means),
                "effective": exp(-sum(mean * log(mean) for mean in means if mean > 0)),
                "tells_kind": sum(max(by_kind) for by_kind in by_expert.values()) / kinds,
            }
        )
    return found


@contextmanager
def without(model: Any, layer: int, expert: int) -> Iterator[Any]:
    """The model whose router of one layer cannot choose one expert, for as long as the `with` lasts."""
    found = routers(model)
    if not (0 <= layer < len(found) and 0 <= expert < found[0].num_experts):
        raise InvalidInput(
            f"There is no expert {expert} in layer {layer}.",
            f"Layers go from 0 to {len(found) - 1} and experts from 0 to {found[0].num_experts - 1}.",
        )

    def reroute(router: Any, _: Any, out: Any) -> Any:
        from transformers.models.phimoe.modeling_phimoe import sparsemixer

        logits = out[0].clone()
        logits[:, expert] = float("-inf")
        return logits, *sparsemixer(logits, router.router_jitter_noise, router.training, router.top_k)

    hook = found[layer].register_forward_hook(reroute)
    try:
        yield model
    finally:
        hook.remove()


def costs_of_experts(model: Any, loss: Any, experts: Iterable[tuple[int, int]] | None = None) -> list[RoutingRow]:
    """How much the loss of each kind of text rises when one expert is switched off, for each (layer, expert).

    `loss` gives the losses of a model by kind, as `mixture.held_out` does.
    """
    found = routers(model)
    pairs = experts or [(layer, n) for layer in range(len(found)) for n in range(found[0].num_experts)]
    before = loss(model)
    rows = []
    for layer, expert in pairs:
        with without(model, layer, expert):
            after = loss(model)
        rows += [
            {"layer": layer, "expert": expert, "kind": kind, "rise": after[kind] - before[kind]} for kind in before
        ]
    return rows


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


def draw_choice(
    logits: Sequence[float], chosen: Mapping[int, float], *, token: str = "a token", ax: Axes | None = None
) -> Axes:
    """One token's way through a layer of experts: each expert's logit, and an arrow to each of the `chosen`.

    `chosen` gives the weight with which an expert's output counts; experts that are not in it rest.
    """
    if ax is None:
        plots.use_theme()
        ax = plt.subplots(figsize=(7.5, 0.42 * len(logits) + 0.9), layout="constrained")[1]
    middle = (len(logits) - 1) / 2
    ends = {0.0: f"{token},\nafter attention", 2.6: "router:\none small\nmatrix", 8.2: "weighted\nsum"}
    for x, text in ends.items():
        plots.box(ax, x, middle, text, size=(1.6, 1.6))
    plots.arrow(ax, (0.8, middle), (1.8, middle))
    on_arrow: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5}
    on_arrow["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    for number, logit in enumerate(logits):
        works, y = number in chosen, len(logits) - 1 - number
        shade = EXPERTS[number % len(EXPERTS)] if works else None
        plots.box(ax, 5.4, y, f"expert {number}", size=(1.6, 0.62), shade=shade)
        plots.arrow(ax, (3.4, middle), (4.6, y), weak=not works)
        on_arrow["color"] = "#222222" if works else "#888888"
        ax.text(4.1, (2 * y + middle) / 3, f"{logit:+.2f}", **on_arrow)
        if works:
            plots.arrow(ax, (6.2, y), (7.4, middle))
            ax.text(6.8, (y + middle) / 2, f"× {chosen[number]:.2f}", **on_arrow)
        else:
            ax.text(6.3, y, "rests", fontsize=7.5, va="center", color="#888888")
    plots.arrow(ax, (9.0, middle), (9.8, middle))
    ax.text(9.85, middle, "next layer", fontsize=8, va="center")
    ax.set(xlim=(-0.9, 11.0), ylim=(-0.6, len(logits) - 0.4))
    ax.axis("off")
    return ax


def coloured_text(pieces: Sequence[str], experts: Sequence[int], *, title: str = "", ax: Axes | None = None) -> Axes:
    """The text of `pieces`, one a token, each on the colour of its expert and over its number.

    A token is never cut at a line's end.
    """
    if len(pieces) != len(experts):
        raise InvalidInput(f"{len(pieces)} tokens cannot be coloured by {len(experts)} experts.")
    if experts and max(experts) >= len(EXPERTS):
        raise InvalidInput(f"There are colours for {len(EXPERTS)} experts only.", "Look at fewer experts at a time.")
    placed, lines = _placed(pieces)
    if ax is None:
        plots.use_theme()
        ax = plt.subplots(figsize=(MAP_WIDTH * CHARACTER, (lines + 2.4) * LINE))[1]
        ax.figure.subplots_adjust(0, 0, 1, 1)
    for place, expert in enumerate(sorted(set(experts))):  # a legend in a line of its own, above the text
        ax.add_patch(Rectangle((10 * place, -1.5), 9, 0.9, color=EXPERTS[expert], alpha=0.5, linewidth=0))
        ax.text(10 * place + 0.5, -1.05, f"expert {expert}", fontsize=7, va="center")
    for n, text, column, line in placed:
        shade = EXPERTS[experts[n]]
        ax.add_patch(Rectangle((column, line), len(text) - 0.1, 0.92, color=shade, alpha=0.5, linewidth=0))
        shown = text.replace("$", r"\$")  # matplotlib would read a formula
        ax.text(column, line + 0.34, shown, family="DejaVu Sans Mono", fontsize=8, va="center")
        ax.text(column + 0.1, line + 0.76, str(experts[n]), fontsize=5, va="center")
    ax.set(xlim=(0, MAP_WIDTH), ylim=(lines, -2.4))
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
            if column and column + len(text) > MAP_WIDTH:
                column, line = 0, line + 1
            placed.append((n, text, column, line))
            column += len(text)
    return placed, line + 1
