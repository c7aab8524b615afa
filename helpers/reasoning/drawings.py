"""The two mechanisms of notebook 08 as drawings: what thinking in tokens is, and one step of GRPO."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from helpers import plots

_ASK, _THINK, _TELL = plots.PALETTE[0], plots.PALETTE[3], plots.PALETTE[2]


def draw_ways(*, ax: Axes | None = None) -> Axes:
    """The same problem asked at once, step by step, and five times with a vote: each square is a token.

    Every token is one more pass through all layers, and its result is there for the next one to read.
    """
    ax = ax or plots.panels(1, width=9.0, height=2.7)[0]
    rows = [("at once", 4.0, [0]), ("step by step", 3.1, [16]), ("five votes", 2.2, [16, 13, 17, 15, 14])]
    for name, top, lengths in rows:
        ax.text(0.2, top, name, ha="right", va="center", fontweight="bold")
        for number, length in enumerate(lengths):
            _tokens(ax, top - 0.42 * number, length)
    ends = 2.2 - 0.42 * 4
    ax.annotate("most\nfrequent", (15.4, (2.2 + ends) / 2), ha="left", va="center")
    ax.plot([15.1, 15.1], [ends - 0.15, 2.35], color="#444444", linewidth=1)
    for text, x in (("question", 0.9), ("steps", 6.5), ("answer", 13.8)):
        ax.text(x, 4.55, text, ha="center", va="center", fontweight="bold")
    ax.set(xlim=(-2.2, 17.2), ylim=(0.2, 4.8))
    ax.axis("off")
    return ax


def _tokens(ax: Axes, y: float, steps: int) -> None:
    for place in range(4):
        plots.box(ax, 0.5 + 0.3 * place, y, "", size=(0.24, 0.3), shade=_ASK)
    for place in range(steps):
        plots.box(ax, 2.2 + 0.6 * place, y, "", size=(0.5, 0.3), shade=_THINK)
    plots.box(ax, 13.8 if steps else 2.2, y, "", size=(0.5, 0.3), shade=_TELL)


def draw_grpo(rewards: Sequence[float], advantages: Sequence[float], *, ax: Axes | None = None) -> Axes:
    """One step of GRPO: a prompt, a group of answers, their rewards, and what each is worth beside its group.

    Blue answers become likelier, orange ones less likely.
    """
    ax = ax or plots.panels(1, width=9.0, height=2.8)[0]
    count = len(rewards)
    middle = (count - 1) / 2
    plots.box(ax, 0.8, middle, "one\nprompt", size=(1.3, 0.9))
    for number, (reward, advantage) in enumerate(zip(rewards, advantages, strict=True)):
        y = count - 1 - number
        plots.arrow(ax, (1.5, middle), (2.3, y))
        shade = "#F2F2F2" if advantage == 0 else plots.PALETTE[0 if advantage > 0 else 3]
        plots.box(ax, 3.3, y, f"answer {number + 1}", size=(1.8, 0.7))
        plots.arrow(ax, (4.3, y), (5.1, y))
        plots.box(ax, 5.8, y, f"{reward:g}", size=(1.2, 0.7))
        plots.arrow(ax, (6.5, y), (7.3, y))
        plots.box(ax, 8.1, y, f"{advantage:+.2f}", size=(1.4, 0.7), shade=shade)
        plots.arrow(ax, (8.9, y), (9.8, middle))
    plots.box(ax, 10.6, middle, "change the\nweights", size=(1.5, 0.9))
    heads = ((3.3, "drawn from the model"), (5.8, "reward"), (8.1, "advantage"))
    for x, text in heads:
        ax.text(x, count - 0.35, text, ha="center", va="center", fontweight="bold")
    ax.set(xlim=(0, 11.5), ylim=(-0.6, count))
    ax.axis("off")
    return ax
