"""The pictures of the course: a tidy table in, matplotlib Axes out; and one curve that grows while a model trains.

A table is a pandas DataFrame or a list of dicts. One look throughout: colour is the model family and marker the
backend, in every notebook; an axis carries its unit, and what was measured its spread. Nothing here calls `show`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from helpers.errors import InvalidInput
from helpers.records import ModelCard

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]

#: Okabe and Ito's palette, made for any kind of colour vision (jfly.uni-koeln.de/color). Its sky blue and its orange
#: are darker here, so that each colour stands out from white by 3 to 1 (WCAG 2.2, 1.4.11).
PALETTE = ("#0072B2", "#3498D4", "#009E73", "#C48400", "#D55E00", "#CC79A7", "#444444")
FAMILIES = dict(zip(("Phi-3", "Phi-3.5", "Phi-4", "SmolLM2", "SmolVLM", "Mistral", "GPT"), PALETTE, strict=True))
# Okabe and Ito have no more: wine and olive of Tol's muted scheme (SRON/EPS/TN/09-002), darker than what they are near.
FAMILIES |= {"Qwen2.5-Coder": "#882255", "MiniLM": "#999933"}
NO_FAMILY = "#888888"
BACKENDS = dict(zip("llamacpp transformers onnx-genai openvino mlx ollama echo".split(), "osD^vPX", strict=True))
#: For what is neither family nor backend, such as a precision or a device: the palette, alike colours far apart.
OTHERS = tuple(PALETTE[3 * n % 7] for n in range(7))
OTHER_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
#: Colours whose lightness (CIE L*, from 0 to 100) differs by less look alike in grey: a hatch or a filling parts them.
ALIKE_IN_GREY = 10.0
HATCHES = ("", "////", "....", "xxxx", "----")
FILLINGS = ("full", "none", "left", "bottom", "right")
THEME: dict[str, Any] = {
    **{"figure.figsize": (6.0, 3.5), "figure.dpi": 110, "font.size": 9, "lines.markersize": 6},
    **{"axes.titlesize": 10, "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": "#E3E3E3", "grid.linewidth": 0.7},
    **{"legend.frameon": False, "legend.fontsize": 8},
}
#: The endings of columns that carry a unit, as an axis writes them.
AXIS_UNITS = {"_tokens_per_second": "tokens/s", "_seconds": "s", "_gib": "GiB", "_bytes": "bytes", "_percent": "%"}
SPREAD: dict[str, Any] = {"ecolor": "#333333", "elinewidth": 1.1, "capsize": 3}


def use_theme() -> None:
    """Gives every figure made from here on the look of the course. The plots below call it themselves."""
    plt.rcParams.update(THEME)


def panels(columns: int, *, width: float = 9.0, height: float = 3.0, sharey: bool = False) -> list[Axes]:
    """So many Axes side by side in one figure of the course's look, its width and height in inches."""
    use_theme()
    axes = plt.subplots(1, columns, figsize=(width, height), sharey=sharey, squeeze=False, layout="constrained")[1]
    return list(axes[0])


def colour(name: str) -> str:
    """The colour of a model family, of a family's model ("phi-3.5-mini"), or grey for what is neither."""
    fitting = [family for family in FAMILIES if name.lower().startswith(family.lower())]
    return FAMILIES[max(fitting, key=len)] if fitting else NO_FAMILY


def marker(backend: str) -> str:
    """The marker of a backend; one that the course does not name yet gets a star."""
    return BACKENDS.get(backend.lower(), "*")


def lightness(shade: str) -> float:
    """How light a colour is to the eye: L* of CIE 1976, from 0 for black to 100 for white."""
    linear = luminance(shade)
    return 116 * linear ** (1 / 3) - 16 if linear > 0.008856 else 903.3 * linear


def luminance(shade: str) -> float:
    """The relative luminance of an sRGB colour, from 0 to 1 (WCAG 2.2, its definitions)."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(shade)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def parted(shades: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """A pattern for each colour: the first that no earlier colour has which looks like it in grey."""
    given: list[str] = []
    for shade in shades:
        before = zip(given, shades, strict=False)
        taken = {pattern for pattern, other in before if abs(lightness(other) - lightness(shade)) < ALIKE_IN_GREY}
        given.append(next(pattern for pattern in patterns if pattern not in taken))
    return given


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
        _beside(ax, label, c.parameters, place)
    ax.set_xscale("log")
    ax.set_xlim(right=ax.get_xlim()[1] * 12)  # room for the label of the largest
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    return _named(ax, [c.title for c in chosen], "parameters (log scale)")


def scores(table: Any, *, x: str = "percent", y: str = "title", hue: str = "family", ax: Axes | None = None) -> Axes:
    """Scores of one benchmark in one harness with their 95 % intervals (`low`, `high`), best on top.

    A table of several benchmarks or harnesses is refused: such scores do not compare.
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
        ax.errorbar(row[x], place, xerr=_arms([row], x), fmt="o", **(SPREAD | {"color": colour(row[hue])}))
        ax.annotate(f"{row[x]:.1f}", (row[x], place), (0, 5), textcoords="offset points", ha="center", fontsize=7.5)
    ax.set_ylim(-0.6, len(rows) - 0.3)
    _named(ax, [row[y] for row in rows], f"{rows[0]['benchmark']}, % right (95 % interval)")
    ax.set_title(rows[0]["harness"])
    return ax


def bars_with_spread(
    table: Any, *, x: str, y: str, hue: str | None = None, low: str = "low", high: str = "high", ax: Axes | None = None
) -> Axes:
    """A bar of height `y` for each `x` and `hue`, with a line from `low` to `high`.

    A `hue` whose colour looks like an earlier one's in grey is hatched.
    """
    rows = _rows(table, x, y, low, high, *([hue] if hue else []))
    ax = _axes(ax)
    groups, series = _distinct(rows, x), _distinct(rows, hue) if hue else [None]
    width, own = 0.8 / len(series), _shades(series)
    hatches = parted(own, HATCHES)
    for number, name in enumerate(series):
        part = [row for row in rows if not hue or row[hue] == name]
        places = [groups.index(row[x]) + (number - (len(series) - 1) / 2) * width for row in part]
        heights = [row[y] for row in part]
        shades = own[number] if hue else [colour(str(row.get("model", row[x]))) for row in part]
        look: dict[str, Any] = {"color": shades, "hatch": hatches[number], "hatchcolor": "white"}
        ax.bar(places, heights, width * 0.92, label=str(name), **look)
        _, caps, arms = ax.errorbar(places, heights, yerr=_arms(part, y, low, high), fmt="none", **SPREAD)
        for line in (*caps, *arms):  # half of it lies on the bar, which may be as dark
            line.set_path_effects([withStroke(linewidth=2.8, foreground="white")])
    ax.set_xticks(range(len(groups)), [str(group) for group in groups])
    ax.grid(axis="x", visible=False)
    return _labelled(ax, x, y, hue)


def predicted_vs_measured(table: Any, *, hue: str = "precision", ax: Axes | None = None) -> Axes:
    """The roofline, log-log: what memory bandwidth allows against what was measured, from `low` to `high`.

    A `backend` column chooses the marker and a `model` column the colour; `hue` is written beside the point. What is
    predicted has a spread of its own where the columns `predicted_low` and `predicted_high` say so.
    """
    x, y = "predicted_tokens_per_second", "measured_tokens_per_second"
    rows = _rows(table, x, y, hue, "low", "high")
    ax = _axes(ax)
    for row in rows:
        shade, shape = colour(str(row.get("model", ""))), marker(str(row.get("backend", "llamacpp")))
        across = _arms([row], x, "predicted_low", "predicted_high") if "predicted_low" in row else None
        ax.errorbar(row[x], row[y], yerr=_arms([row], y), xerr=across, fmt=shape, **(SPREAD | {"color": shade}))
    every = [value for row in rows for value in (row[x], row["low"], row["high"])]
    ends = [min(every) / 1.6, max(every) * 1.9]
    ax.plot(ends, ends, color="#888888", linewidth=1, linestyle="--", zorder=0)
    ax.annotate("dashed: measured = predicted", (0.02, 0.94), xycoords="axes fraction", color="#666666", fontsize=8)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel=_words(x), ylabel=_words(y))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    name_points(ax, [(str(row[hue]), row[x], row[y]) for row in rows])
    return ax


def cross(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """A 2 × 2 cross of a bias test: its four log-likelihoods, the stereotype's two shaded, and what remains of them.

    `table` is a DataFrame so arranged that the stereotype joins each row's word to the column's on the diagonal.
    """
    (one, other), (third, fourth) = table.to_numpy().tolist()
    ax = _axes(ax)
    ax.imshow([[0.25, 0.0], [0.0, 0.25]], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for place, value in enumerate((one, other, third, fourth)):
        ax.annotate(f"{value:.1f}".replace("-", "−"), (place % 2, place // 2), ha="center", va="center", fontsize=14)
    ax.set_xticks([0, 1], table.columns, fontsize=11)
    ax.set_yticks([0, 1], table.index, fontsize=11)
    ax.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    ax.grid(visible=False)
    left, right = one - other, fourth - third
    mean = f"{(left + right) / 2:+.1f}".replace("-", "−")
    ax.set_xlabel(f"shaded − plain: {left:+.1f} above, {right:+.1f} below; mean {mean} nats".replace("-", "−"))
    return ax


def lines(
    table: Any, *, x: str, y: str, hue: str | None = None, band: tuple[str, str] | None = None, ax: Axes | None = None
) -> Axes:
    """A line of `y` over `x` for each `hue`, each in a band between the two columns that `band` names."""
    rows = _rows(table, x, y, *([hue] if hue else []), *(band or ()))
    ax = _axes(ax)
    series = _distinct(rows, hue) if hue else [None]
    for name, shade, shape in zip(series, _shades(series), _markers(series), strict=True):
        part = sorted((row for row in rows if not hue or row[hue] == name), key=lambda row: row[x])
        along = [row[x] for row in part]
        ax.plot(along, [row[y] for row in part], marker=shape, color=shade, label=str(name))
        if band:
            low, high = ([row[edge] for row in part] for edge in band)
            ax.fill_between(along, low, high, color=shade, alpha=0.18, linewidth=0)
    return _labelled(ax, x, y, hue)


def ladder(table: Any, *, hue: str = "task", ax: Axes | None = None) -> Axes:
    """`score` against `parameters` (log scale) with its 95 % interval, `low` to `high`: a line for each task.

    Each line is named at its end. The lines stand a little beside each other, so that no interval covers another's.
    """
    rows = _rows(table, hue, "parameters", "score", "low", "high")
    series = _distinct(rows, hue)
    shades = series_colours(len(series))
    ax = _axes(ax)
    ends = []
    for number, (name, shade) in enumerate(zip(series, shades, strict=True)):
        part = sorted((row for row in rows if row[hue] == name), key=lambda row: row["parameters"])
        along = [row["parameters"] * 1.04 ** (number - (len(series) - 1) / 2) for row in part]
        heights, look = [row["score"] for row in part], SPREAD | {"color": shade, "ecolor": shade}
        ax.errorbar(along, heights, yerr=_arms(part, "score"), fmt=f"{OTHER_MARKERS[number]}-", **look)
        ends.append((heights[-1], number))
    ends.sort()
    for (_, number), height in zip(ends, _apart([end for end, _ in ends], gap=6.5), strict=True):
        beside: dict[str, Any] = {"color": OTHERS[number], "transform": ax.get_yaxis_transform(), "clip_on": False}
        ax.plot(1.04, height, OTHER_MARKERS[number], **beside)
        ax.annotate(series[number], (1.07, height), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    rungs = sorted({row["parameters"] for row in rows})
    ax.set(xscale="log", xlabel="parameters (log scale)", ylabel="points of 100 (95 % interval)", ylim=(-3, 103))
    ax.set_xticks(rungs, [_short(size) for size in rungs])
    ax.minorticks_off()
    return ax


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights for the names of lines that end at these, lowest first: as near as may be, but `gap` from each other."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    # What was pushed above the top comes down again.
    return [min(height, 100 - gap * above) for above, height in zip(range(len(placed))[::-1], placed, strict=True)]


def _axes(ax: Axes | None, rows: int = 0) -> Axes:
    """The Axes given, or new ones that are tall enough for so many rows of labels."""
    if ax is not None:
        return ax
    use_theme()
    width, height = THEME["figure.figsize"]
    return plt.subplots(figsize=(width, max(height, 0.24 * rows + 0.9)), layout="constrained")[1]


def _rows(table: Any, *columns: str) -> list[Row]:
    rows = table.to_dict("records") if hasattr(table, "to_dict") else list(table)
    missing = sorted({column for column in columns for row in rows if column not in row})
    if missing or not rows:
        lacking = f"lacks the column {', '.join(missing)}" if missing else "has no rows"
        raise InvalidInput(f"The table to plot {lacking}.", f"A plot like this needs {', '.join(columns)}.")
    return rows


def _named(ax: Axes, names: Sequence[str], label: str) -> Axes:
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel(label)
    ax.grid(axis="y", visible=False)
    return ax


def _arms(rows: Sequence[Row], middle: str, low: str = "low", high: str = "high") -> list[list[float]]:
    return [[row[middle] - row[low] for row in rows], [row[high] - row[middle] for row in rows]]


def _distinct(rows: Sequence[Row], column: str) -> list[Any]:
    return list(dict.fromkeys(row[column] for row in rows))


def series_colours(count: int) -> list[str]:
    """The colours of so many series that are neither families nor backends; InvalidInput for more than there are."""
    if count > len(OTHERS):
        raise InvalidInput(f"{count} series in one plot cannot be told apart.", f"Choose {len(OTHERS)} or fewer.")
    return list(OTHERS[:count])


def _shades(series: Sequence[Any]) -> list[str]:
    """A colour for each series: the family's, unless two would be alike or one has no family."""
    families = [colour(str(name)) for name in series]
    distinct = NO_FAMILY not in families and len(set(families)) == len(families)
    return families if distinct else series_colours(len(series))


def _markers(series: Sequence[Any]) -> Sequence[str]:
    """A marker for each series: the backends' where all are backends, so that none has another's."""
    names = [str(name).lower() for name in series]
    return [BACKENDS[name] for name in names] if set(names) <= set(BACKENDS) else OTHER_MARKERS[: len(names)]


def name_points(ax: Axes, points: Sequence[tuple[str, float, float]], *, gap: float = 5) -> None:
    """Writes (text, x, y): each text `gap` points off its own, on the first side where it covers nothing named here.

    To be called last, since what it covers depends on the limits of the axes.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout moves the axes
    here = [ax.transData.transform((x, y)) for _, x, y in points]
    taken = [text.get_window_extent() for text in ax.texts] + [Bbox([at - gap, at + gap]) for at in here]
    sides = [(gap, -gap, "left", "top"), (-gap, gap, "right", "bottom"), (gap, gap, "left", "bottom")]
    sides += [(-gap, -gap, "right", "top"), (0, 3 * gap, "center", "bottom"), (0, -3 * gap, "center", "top")]
    for text, x, y in points:
        for right, up, ha, va in sides:
            look: dict[str, Any] = {"ha": ha, "va": va, "fontsize": 8}
            written = ax.annotate(text, (x, y), (right, up), textcoords="offset points", **look)
            box = written.get_window_extent()
            inside = box.x0 > ax.bbox.x0 and box.y0 > ax.bbox.y0  # the axes are named on these sides
            if inside and not any(box.overlaps(other) for other in taken):
                break
            written.remove()
        else:  # there is no room: better on another text than nowhere
            ax.add_artist(written)
        taken.append(box)


def _beside(ax: Axes, text: str, x: float, y: float) -> None:
    ax.annotate(text, (x, y), (8, 0), textcoords="offset points", va="center", fontsize=8)


def _labelled(ax: Axes, x: str, y: str, hue: str | None) -> Axes:
    """The Axes with named axes and, for several series, a legend outside, where it covers nothing."""
    ax.set(xlabel=_words(x), ylabel=_words(y))
    if hue:
        ax.legend(title=_words(hue), loc="upper left", bbox_to_anchor=(1.0, 1.0), alignment="left")
    return ax


def _words(column: str) -> str:
    """A column's name as an axis label: "decode_tokens_per_second" becomes "decode (tokens/s)"."""
    ending = next((ending for ending in AXIS_UNITS if column.endswith(ending)), "")
    words = column.removesuffix(ending).replace("ttft", "time to first token").replace("_", " ")
    return f"{words} ({AXIS_UNITS[ending]})" if ending else words


def _short(count: float) -> str:
    """135M, 3.82B, 1.76T."""
    size, letter = next((s, name) for s, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1, "")) if count >= s)
    return f"{count / size:.3g}{letter}"


def box(
    ax: Axes, x: float, y: float, text: str, *, size: tuple[float, float] = (1.6, 0.6), shade: str | None = "#F2F2F2"
) -> None:
    """Draws a box with a text, its middle at (x, y); one without a shade is only hinted at: it rests, or is absent."""
    width, height = size
    look: dict[str, Any] = {"facecolor": shade or "white", "edgecolor": "#444444" if shade else "#BBBBBB"}
    ax.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, alpha=0.55 if shade else 1.0, **look))
    ax.text(x, y, text, ha="center", va="center", fontsize=8, color="#111111" if shade else "#888888")


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], *, weak: bool = False) -> None:
    """Draws an arrow from one point to another; a weak one is grey and thin."""
    look = {"arrowstyle": "->", "color": "#BBBBBB" if weak else "#333333", "linewidth": 0.7 if weak else 1.4}
    ax.annotate("", end, start, arrowprops=look | {"shrinkA": 0, "shrinkB": 0})


class LiveCurve:
    """Give it to `train(on_step=…)`: it draws the loss again every so many steps, in one place.

    The thin line is the loss of each batch, the thick one its running mean. Outside a notebook nothing is shown;
    `draw` gives the finished picture everywhere.
    """

    def __init__(self, every: int = 10, title: str = "") -> None:
        self.every, self.title = every, title
        self._handle: Any = None

    def __call__(self, rows: list[dict[str, float]]) -> None:
        """Draws the curve if it is time to."""
        if len(rows) % self.every:
            return
        figure = self.draw(rows).figure
        assert isinstance(figure, Figure)
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        if get_ipython() is not None:
            if self._handle is None:
                self._handle = display(figure, display_id=True)
            else:
                self._handle.update(figure)
        plt.close(figure)  # or the notebook would show it a second time

    def draw(self, rows: list[dict[str, float]]) -> Axes:
        """The loss over the tokens read so far."""
        ax = _axes(None)
        tokens, losses = [row["tokens"] / 1000 for row in rows], [row["loss"] for row in rows]
        ax.plot(tokens, losses, color=PALETTE[1], linewidth=0.8, label="each batch")
        ax.plot(tokens, smooth(losses), color=PALETTE[0], linewidth=2, label="running mean")
        ax.set(xlabel="tokens read (thousands)", ylabel="loss (nats a token)", title=self.title)
        ax.legend()
        return ax


def smooth(values: list[float]) -> list[float]:
    """The running mean in which each step back counts a tenth less.

    >>> smooth([1.0, 1.0, 1.0])
    [1.0, 1.0, 1.0]
    """
    import pandas as pd

    means: list[float] = pd.Series(values, dtype=float).ewm(alpha=0.1).mean().round(6).tolist()
    return means
