"""The pictures of the course: a tidy table in, matplotlib Axes out.

A table is a pandas DataFrame or a list of dicts. One look throughout: colour is the model family and marker the
backend, in every notebook; an axis carries its unit, and the spread of what was measured is drawn. Nothing here
calls `show` or `savefig`: in a notebook, the Axes that a cell ends in are the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter

from helpers.errors import InvalidInput
from helpers.records import ModelCard

Row = Mapping[str, Any]

#: Okabe and Ito's palette, which people with any kind of colour vision tell apart (jfly.uni-koeln.de/color).
FAMILIES = {
    "Phi-3": "#0072B2",
    "Phi-3.5": "#56B4E9",
    "Phi-4": "#009E73",
    "SmolLM2": "#E69F00",
    "SmolVLM": "#D55E00",
    "Mistral": "#CC79A7",
    "GPT": "#444444",
}
BACKENDS = {"llamacpp": "o", "transformers": "s", "onnx": "D", "openvino": "^", "mlx": "v", "ollama": "P", "echo": "X"}
#: For what is neither a family nor a backend, such as a precision, a field of knowledge or a device.
OTHERS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#444444")
OTHER_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
THEME = {
    "figure.figsize": (6.0, 3.5),
    "figure.dpi": 110,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.markersize": 6,
}
SPREAD = {"ecolor": "#333333", "elinewidth": 1.1, "capsize": 3}


def use_theme() -> None:
    """Gives every figure made from here on the look of the course. The plots below call it themselves."""
    plt.rcParams.update(THEME)


def colour(name: str) -> str:
    """The colour of a model family, of a family's model ("phi-3.5-mini"), or grey for what is neither."""
    fitting = [family for family in FAMILIES if name.lower().startswith(family.lower())]
    return FAMILIES[max(fitting, key=len)] if fitting else "#888888"


def marker(backend: str) -> str:
    """The marker of a backend; one that the course does not name yet gets a star."""
    return BACKENDS.get(backend.lower(), "*")


def sizes(cards: Iterable[ModelCard], *, ax: Axes | None = None) -> Axes:
    """Parameters on a log scale, smallest model on top. A hollow dot is an estimate, a tick the active parameters."""
    chosen = sorted(cards, key=lambda c: -c.parameters)
    ax = _axes(ax, rows=len(chosen))
    for place, c in enumerate(chosen):
        shade, guessed = colour(c.family), c.basis == "estimate"
        ax.plot(c.parameters, place, "o", color=shade, markerfacecolor="white" if guessed else shade, markersize=7)
        label = _short(c.parameters) + (" (estimate)" if guessed else "")
        if c.active_parameters < c.parameters:
            ax.plot([c.active_parameters, c.parameters], [place] * 2, color=shade, linewidth=1.5, zorder=1)
            ax.plot(c.active_parameters, place, "|", color=shade, markersize=10, markeredgewidth=2)
            label += f", {_short(c.active_parameters)} active"
        ax.annotate(label, (c.parameters, place), (8, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_xscale("log")
    if chosen:
        ax.set_xlim(chosen[-1].parameters / 2, chosen[0].parameters * 12)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    ax.grid(axis="y", visible=False)
    return _named(ax, [c.title for c in chosen], "parameters (log scale)")


def scores(table: Any, *, x: str = "percent", y: str = "title", hue: str = "family", ax: Axes | None = None) -> Axes:
    """Scores of one benchmark in one harness with their 95 % intervals (`low`, `high`), best on top.

    Raises InvalidInput for a table of several benchmarks or harnesses: such scores do not compare.
    """
    rows = sorted(_rows(table, x, y, hue, "low", "high", "benchmark", "harness"), key=lambda row: row[x])
    for column in ("benchmark", "harness"):
        several = sorted({row[column] for row in rows})
        if len(several) > 1:
            raise InvalidInput(
                f"These scores come from more than one {column} ({', '.join(several)}) and do not compare.",
                f"Draw one plot for each {column}.",
            )
    ax = _axes(ax, rows=len(rows))
    for place, row in enumerate(rows):
        shade = colour(row[hue])
        ax.errorbar(row[x], place, xerr=_arms([row], x, "low", "high"), fmt="o", **(SPREAD | {"color": shade}))
        ax.annotate(f"{row[x]:.1f}", (row[x], place), (0, 5), textcoords="offset points", ha="center", fontsize=7.5)
    ax.set_ylim(-0.6, len(rows) - 0.3)
    ax.grid(axis="y", visible=False)
    _named(ax, [row[y] for row in rows], f"{rows[0]['benchmark']}, % right (95 % interval)")
    ax.set_title(rows[0]["harness"])
    return ax


def bars_with_spread(
    table: Any, *, x: str, y: str, hue: str | None = None, low: str = "low", high: str = "high", ax: Axes | None = None
) -> Axes:
    """A bar for each `x` and `hue` of height `y`, with a line from `low` to `high`. Set the unit by `set_ylabel`."""
    rows = _rows(table, x, y, low, high, *([hue] if hue else []))
    ax = _axes(ax)
    groups, series = _distinct(rows, x), _distinct(rows, hue) if hue else [""]
    width = 0.8 / len(series)
    for number, (name, shade) in enumerate(zip(series, _shades(series, groups), strict=True)):
        part = [row for row in rows if not hue or row[hue] == name]
        places = [groups.index(row[x]) + (number - (len(series) - 1) / 2) * width for row in part]
        heights, shades = [row[y] for row in part], [colour(str(row[x])) for row in part]
        ax.bar(places, heights, width * 0.92, color=shade or shades, label=str(name))
        ax.errorbar(places, heights, yerr=_arms(part, y, low, high), fmt="none", **SPREAD)
    ax.set_xticks(range(len(groups)), [str(group) for group in groups])
    ax.grid(axis="x", visible=False)
    ax.set_xlabel(_words(x))
    ax.set_ylabel(_words(y))
    if hue:
        _legend(ax, _words(hue))
    return ax


def rates(
    table: Any, *, x: str = "decode_tokens_per_second", y: str = "model", hue: str = "backend", ax: Axes | None = None
) -> Axes:
    """The median of a rate for each model and backend, with a line from its slowest to its fastest repeat."""
    rows = [row for row in _rows(table, x, y, hue) if row[x] is not None and row[x] == row[x]]
    models, backends = _distinct(rows, y), _distinct(rows, hue)
    ax = _axes(ax, rows=len(models) * len(backends))
    for number, backend in enumerate(backends):
        for place, model in enumerate(reversed(models)):
            values = [row[x] for row in rows if (row[y], row[hue]) == (model, backend)]
            if not values:
                continue
            here, middle = place + (len(backends) - 1) / 2 * 0.3 - number * 0.3, median(values)
            arms = [[middle - min(values)], [max(values) - middle]]
            style = SPREAD | {"color": colour(str(model)), "ecolor": colour(str(model))}
            ax.errorbar(middle, here, xerr=arms, fmt=marker(str(backend)), **style)
            note = f"{middle:.3g}" + (f"  {backend}" if len(backends) > 1 else "")
            ax.annotate(note, (max(values), here), (7, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_xlim(0, max((row[x] for row in rows), default=1) * 1.25)
    ax.set_ylim(-0.6, len(models) - 0.4)
    ax.grid(axis="y", visible=False)
    return _named(ax, [str(model) for model in reversed(models)], _words(x))


def predicted_vs_measured(
    table: Any,
    *,
    x: str = "predicted_tokens_per_second",
    y: str = "measured_tokens_per_second",
    hue: str = "precision",
    low: str = "low",
    high: str = "high",
    ax: Axes | None = None,
) -> Axes:
    """The roofline: what memory bandwidth allows against what was measured, log-log; on the line is the bound.

    `low` and `high` are the slowest and fastest repeat. A `backend` column chooses the marker, a `model` column the
    colour; `hue` is what is written beside the point.
    """
    rows = _rows(table, x, y, hue, low, high)
    ax = _axes(ax)
    for row in rows:
        shade, shape = colour(str(row.get("model", ""))), marker(str(row.get("backend", "llamacpp")))
        style = SPREAD | {"color": shade, "ecolor": shade}
        ax.errorbar(row[x], row[y], yerr=_arms([row], y, low, high), fmt=shape, **style)
        ax.annotate(str(row[hue]), (row[x], row[y]), (7, -3), textcoords="offset points", va="top", fontsize=8)
    every = [value for row in rows for value in (row[x], row[low], row[high])] or [1, 10]
    ends = [min(every) / 1.6, max(every) * 1.9]
    ax.plot(ends, ends, color="#888888", linewidth=1, linestyle="--", zorder=0)
    ax.annotate("measured = predicted", (ends[0], ends[0]), (10, 26), textcoords="offset points", color="#666666")
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel=_words(x), ylabel=_words(y))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    return ax


def lines(
    table: Any, *, x: str, y: str, hue: str | None = None, band: tuple[str, str] | None = None, ax: Axes | None = None
) -> Axes:
    """A line of `y` over `x` for each `hue`, each in a band between the two columns that `band` names."""
    rows = _rows(table, x, y, *([hue] if hue else []), *(band or ()))
    ax = _axes(ax)
    series = _distinct(rows, hue) if hue else [""]
    for number, (name, shade) in enumerate(zip(series, _shades(series, []), strict=True)):
        part = sorted((row for row in rows if not hue or row[hue] == name), key=lambda row: row[x])
        shape = BACKENDS.get(str(name).lower(), OTHER_MARKERS[number % len(OTHER_MARKERS)])
        along = [row[x] for row in part]
        ax.plot(along, [row[y] for row in part], marker=shape, color=shade or OTHERS[0], label=str(name))
        if band:
            edges = ([row[edge] for row in part] for edge in band)
            ax.fill_between(along, *edges, color=shade or OTHERS[0], alpha=0.18, linewidth=0)
    ax.set_xlabel(_words(x))
    ax.set_ylabel(_words(y))
    if hue:
        _legend(ax, _words(hue))
    return ax
