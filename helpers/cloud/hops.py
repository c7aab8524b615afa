"""A drawing of the road that a request takes, with what its stretches cost."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from helpers import plots

#: The stations of a request, what each does, and whether it costs more the farther away the server is.
STATIONS: dict[str, tuple[str, bool]] = {
    "program": ("builds the\nmessages", False),
    "SDK": ("JSON, key,\nasks again", False),
    "connection": ("name, TCP, TLS:\nonce, kept open", True),
    "request": ("there and back:\nonce each", True),
    "gate": ("key, limits,\nwhat may pass", False),
    "slot": ("waits until\none is free", False),
    "model": ("reads all,\nthen writes", False),
}


def draw_hops(cost: Mapping[str, str] | None = None, *, ax: Axes | None = None) -> Axes:
    """The stations from a program to a model, and the answer's way back; `cost` is a text below some of them.

    What grows with the distance is orange, what happens on a machine blue.
    """
    ax = ax or plots.panels(1, width=9.0, height=2.3)[0]
    last = len(STATIONS) - 1
    for place, (name, (does, far)) in enumerate(STATIONS.items()):
        shade = plots.PALETTE[3 if far else 0]
        ax.add_patch(FancyBboxPatch((place - 0.4, 0), 0.8, 1, boxstyle="round,pad=0.02", color=shade, alpha=0.2))
        ax.annotate(name, (place, 0.78), ha="center", va="center", fontweight="bold")
        ax.annotate(does, (place, 0.33), ha="center", va="center", fontsize=7.5)
        ax.annotate((cost or {}).get(name, ""), (place, -0.12), ha="center", va="top", fontsize=8)
        if place:
            ax.annotate("", (place - 0.42, 0.5), (place - 0.58, 0.5), arrowprops={"arrowstyle": "->"})
    ax.plot([last, last, 0], [1.05, 1.4, 1.4], color="#444444", linewidth=1)
    ax.annotate("", (0, 1.03), (0, 1.42), arrowprops={"arrowstyle": "->", "color": "#444444"})
    ax.annotate("the answer streams back, one token behind the other", (last / 2, 1.47), ha="center")
    ax.set(xlim=(-0.5, last + 0.5), ylim=(-0.45, 1.75))
    ax.axis("off")
    return ax
