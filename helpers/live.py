"""A loss curve that grows while the model trains."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers import plots


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

    def draw(self, rows: list[dict[str, float]], ax: Axes | None = None) -> Axes:
        """The loss over the tokens read so far."""
        if ax is None:
            plots.use_theme()
            ax = plt.subplots(layout="constrained")[1]
        tokens, losses = [row["tokens"] / 1000 for row in rows], [row["loss"] for row in rows]
        ax.plot(tokens, losses, color=plots.PALETTE[1], linewidth=0.8, label="each batch")
        ax.plot(tokens, smooth(losses), color=plots.PALETTE[0], linewidth=2, label="running mean")
        ax.set(xlabel="tokens read (thousands)", ylabel="loss (nats a token)", title=self.title)
        ax.legend()
        return ax


def smooth(values: list[float], memory: float = 0.9) -> list[float]:
    """The running mean in which each step back counts `memory` times less.

    >>> smooth([1.0, 1.0, 1.0])
    [1.0, 1.0, 1.0]
    """
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = memory * total + value, memory * weight + 1
        means.append(round(total / weight, 6))
    return means
