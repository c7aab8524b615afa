"""Two rankings and what fusion makes of them, as a drawing for notebook 09."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from helpers import plots
from helpers.assistant.documents import Passage
from helpers.assistant.index import Hit

#: So many characters of a passage's name fit into a box.
_NAME_CHARACTERS = 26


def draw_fusion(words: Sequence[Hit], meaning: Sequence[Hit], both: Sequence[Hit], *, ax: Axes | None = None) -> Axes:
    """Three lists, the best at the top: by words, fused, by meaning; a line leads from each place to the fused one.

    A passage in colour stands in all three.
    """
    ax = ax or plots.panels(1, width=9.0, height=3.2)[0]
    lists = {"by words": (1.6, words), "fused": (5.0, both), "by meaning": (8.4, meaning)}
    everywhere = set.intersection(*({hit.passage for hit in hits} for _, hits in lists.values()))
    places = {title: _place(ax, title, x, hits, everywhere) for title, (x, hits) in lists.items()}
    for title, side in (("by words", 1.35), ("by meaning", -1.35)):
        for passage, (x, y) in places[title].items():
            if passage in places["fused"]:
                end = places["fused"][passage]
                plots.arrow(ax, (x + side, y), (end[0] - side, end[1]), weak=passage not in everywhere)
    deepest = max(len(hits) for _, hits in lists.values())
    ax.set(xlim=(0, 10), ylim=(-0.8 * deepest, 0.9))
    ax.axis("off")
    return ax


def _place(
    ax: Axes, title: str, x: float, hits: Sequence[Hit], everywhere: set[Passage]
) -> dict[Passage, tuple[float, float]]:
    ax.text(x, 0.6, title, ha="center", fontweight="bold")
    places = {}
    for rank, hit in enumerate(hits):
        name = hit.passage.heading.split(" › ")[-1] or hit.passage.source
        short = name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
        places[hit.passage] = (x, -0.8 * rank)
        shade = plots.PALETTE[1] if hit.passage in everywhere else "#F2F2F2"
        plots.box(ax, x, -0.8 * rank, f"{rank + 1}  {short}", size=(2.6, 0.6), shade=shade)
    return places
