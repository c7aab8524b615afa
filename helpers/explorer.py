"""The distribution of the next token under sliders: what temperature, top-k, top-p and the penalty do to it.

A slider lives as long as its kernel, and a page on the web shows none. So `explore` first displays a picture of six
positions, which is stored with the notebook, and then the sliders, which are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from helpers import decoding
from helpers.records import Sampling

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What the reader sees who cannot move the sliders.
POSITIONS = (
    Sampling(temperature=1.0),
    Sampling(temperature=0.5),
    Sampling(temperature=2.0),
    Sampling(temperature=1.0, top_k=3),
    Sampling(temperature=1.0, top_p=0.7),
    Sampling(temperature=1.0, repetition_penalty=1.5),
)
BEFORE, AFTER = "#BBBBBB", "#0072B2"


def plot_candidates(table: pd.DataFrame, title: str = "", *, ax: Axes | None = None) -> Axes:
    """A table of `decoding.candidates` as bars: grey what the model says, blue what the options make of it."""
    import matplotlib.pyplot as plt

    from helpers import plots

    if ax is None:
        plots.use_theme()
        ax = plt.subplots(layout="constrained")[1]
    places = range(len(table))
    ax.barh(places, table["model"], 0.8, color=BEFORE, label="the model's own")
    ax.barh(places, table["after"], 0.4, color=AFTER, label="after the options")
    ax.set_yticks(places, [_label(row.token, row.seen) for row in table.itertuples()])
    ax.set(xlim=(0, 1), ylim=(len(table) - 0.4, -0.6), xlabel="probability of the next token", title=title)
    ax.grid(axis="y", visible=False)
    return ax


def explore(logits: Any, decode: Callable[[int], str], seen: Iterable[int] = (), *, rows: int = 10) -> None:
    """Displays the distribution of the next token at six positions, and then with sliders to move it."""
    from IPython.display import Image, display

    seen = tuple(seen)
    display(Image(_png(positions(logits, decode, seen))))
    display(explorer(logits, decode, seen, rows=rows))


def positions(logits: Any, decode: Callable[[int], str], seen: Iterable[int] = (), *, rows: int = 6) -> Figure:
    """A figure of the six positions side by side, for those who have no sliders."""
    seen = tuple(seen)
    figure = _figure(9, 5)
    for ax, position in zip(figure.subplots(2, 3, sharex=True).flat, POSITIONS, strict=True):
        table = decoding.candidates(logits, decode, position, seen, rows=rows)
        plot_candidates(table, ax=ax)
        moved = ", ".join(f"{name.replace('_', ' ')} {getattr(position, name):g}" for name in _moved(position))
        ax.set_title(f"{moved}\n{describe_position(logits, position, seen)}", fontsize=8)
        ax.set(xlabel="", xlim=(0, None))
    figure.supxlabel("probability of the next token: grey the model's own, blue after the option", fontsize=8)
    return figure


def position(
    logits: Any, decode: Callable[[int], str], sampling: Sampling, seen: Iterable[int] = (), *, rows: int = 10
) -> Figure:
    """A figure of one position, with a legend."""
    seen = tuple(seen)
    figure = _figure(6, 3.5)
    table = decoding.candidates(logits, decode, sampling, seen, rows=rows)
    ax = plot_candidates(table, describe_position(logits, sampling, seen), ax=figure.add_subplot())
    ax.legend(loc="lower right")
    return figure


def explorer(logits: Any, decode: Callable[[int], str], seen: Iterable[int] = (), *, rows: int = 10) -> Any:
    """One widget: its children are four sliders and the picture that follows them."""
    import ipywidgets

    seen = tuple(seen)
    style = {"description_width": "11em"}
    layout = ipywidgets.Layout(width="26em")
    options = {"style": style, "layout": layout}
    sliders = {
        "temperature": ipywidgets.FloatSlider(1.0, min=0, max=3, step=0.1, description="temperature", **options),
        "top_k": ipywidgets.IntSlider(0, min=0, max=50, description="top-k (0: off)", **options),
        "top_p": ipywidgets.FloatSlider(1.0, min=0.05, max=1, step=0.05, description="top-p (1: off)", **options),
        "repetition_penalty": ipywidgets.FloatSlider(
            1.0, min=1, max=2, step=0.1, description="repetition penalty", **options
        ),
    }
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="640px"))

    def redraw(_: Any = None) -> None:
        chosen = Sampling(**{name: slider.value for name, slider in sliders.items()})
        picture.value = _png(position(logits, decode, chosen, seen, rows=rows))

    for slider in sliders.values():
        slider.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([*sliders.values(), picture])


def describe_position(logits: Any, sampling: Sampling, seen: Iterable[int] = ()) -> str:
    """How many tokens are left to choose from, and how open the choice is."""
    probabilities = decoding.distribution(logits, sampling, seen)
    left = int((probabilities > 0).sum())
    return f"{left:,} token{'s' * (left > 1)} left, {decoding.entropy_bits(probabilities):.1f} bits"


def _moved(position: Sampling) -> list[str]:
    """The option that a position is about: what differs from plain sampling, else the temperature."""
    plain = replace(Sampling(), temperature=1.0)
    moved = [name for name in Sampling.__slots__ if getattr(position, name) != getattr(plain, name)]
    return moved or ["temperature"]


def _png(figure: Figure) -> bytes:
    written = BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def _figure(width: float, height: float) -> Figure:
    """A figure that pyplot does not know, so that a notebook neither keeps it nor shows it a second time."""
    from matplotlib.figure import Figure

    from helpers import plots

    plots.use_theme()
    return Figure(figsize=(width, height), layout="constrained")


def _label(token: str, seen: bool) -> str:
    """The token with its space visible, a star where it came before; a dollar sign would begin a formula."""
    return repr(token).replace("$", r"\$") + "*" * seen
