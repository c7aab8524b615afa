"""What attacks did, as tables and drawings: how many won on each rung and way, and where a defence stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from helpers import plots
from helpers.assistant.attacks import ATTACK_WAYS, attacks
from helpers.intervals import Mean, Rate

if TYPE_CHECKING:
    import pandas as pd

_WON, _LOST, _NONE = plots.PALETTE[3], "#E8EEF4", "#FFFFFF"


def defence_table(rows: Iterable[Mapping[str, Any]], model: str) -> pd.DataFrame:
    """One row for each way: attacks that won and honest questions answered rightly, each of 20 with its interval.

    `against bare` is the mean change in attacks won, attack by attack, with its 95 % interval, in percentage points;
    `harm` the same for honest answers.
    """
    import pandas as pd

    came: dict[tuple[str, str], dict[str, bool]] = {}
    for row in rows:
        if row["model"] == model:
            came.setdefault((row["way"], row["kind"]), {})[row["id"]] = row["came_about"]
    table = []
    for way in [way for way in ATTACK_WAYS if (way, "attack") in came]:
        won, right = came[way, "attack"], came.get((way, "honest"), {})
        table.append({"way": way, "attacks won": str(Rate.of(won.values()))})
        table[-1]["against bare"] = _change(won, came["bare", "attack"]) if way != "bare" else ""
        table[-1]["honest and right"] = str(Rate.of(right.values())) if right else ""
        table[-1]["harm"] = _change(right, came["bare", "honest"]) if right and way != "bare" else ""
    return pd.DataFrame(table)


def _change(now: Mapping[str, bool], before: Mapping[str, bool]) -> str:
    both = [name for name in before if name in now]
    change = Mean.of_differences([now[name] for name in both], [before[name] for name in both])
    return f"{100 * change.value:+.0f} ({100 * change.low:+.0f} to {100 * change.high:+.0f})"


def draw_attacks(rows: Iterable[Mapping[str, Any]], model: str, *, ax: Axes | None = None) -> Axes:
    """A square for each attack and way, filled where the attack won; what was not tried is left white."""
    won = {
        (row["id"], row["way"]): row["came_about"] for row in rows if (row["model"], row["kind"]) == (model, "attack")
    }
    ways = [way for way in ATTACK_WAYS if any(each == way for _, each in won)]
    listed = attacks()
    ax = ax or plots.panels(1, width=7.0, height=5.2)[0]
    for line, one in enumerate(reversed(listed)):
        for column, way in enumerate(ways):
            outcome = won.get((one.id, way))
            shade = _NONE if outcome is None else _WON if outcome else _LOST
            plots.box(ax, column, line, "", size=(0.92, 0.86), shade=shade)
    ax.set_yticks(range(len(listed)), [f"{one.id} ({one.channel})" for one in reversed(listed)], fontsize=7.5)
    ax.set_xticks(range(len(ways)), ways, rotation=30, ha="left", fontsize=8)
    ax.xaxis.tick_top()
    ax.set(xlim=(-0.6, len(ways) - 0.4), ylim=(-0.6, len(listed) - 0.4))
    ax.grid(visible=False)
    ax.set_title(f"{model}: filled where the attack won", fontsize=9)
    return ax


def draw_defences(*, ax: Axes | None = None) -> Axes:
    """The way of a turn, from what strangers write to what the person sees, and the four places of a defence."""
    ax = ax or plots.panels(1, width=9.0, height=2.9)[0]
    for y, text in ((2.4, "pages, pictures"), (1.5, "tool results"), (0.6, "the person")):
        plots.box(ax, 1.0, y, text, size=(1.7, 0.6), shade=plots.PALETTE[3])
        plots.arrow(ax, (1.9, y), (3.3, 1.5))
    plots.box(ax, 4.2, 1.5, "prompt", size=(1.7, 0.6))
    plots.arrow(ax, (5.1, 1.5), (6.0, 1.5))
    plots.box(ax, 6.8, 1.5, "model", size=(1.5, 0.6), shade=plots.PALETTE[0])
    plots.arrow(ax, (7.6, 1.7), (8.8, 2.3))
    plots.arrow(ax, (7.6, 1.3), (8.8, 0.7))
    plots.box(ax, 9.7, 2.4, "tool call", size=(1.7, 0.6))
    plots.box(ax, 9.7, 0.6, "answer", size=(1.7, 0.6))
    plots.arrow(ax, (10.6, 2.4), (11.6, 2.4))
    plots.arrow(ax, (10.6, 0.6), (11.6, 0.6))
    plots.box(ax, 12.5, 2.4, "book, files", size=(1.7, 0.6))
    plots.box(ax, 12.5, 0.6, "the person", size=(1.7, 0.6))
    for x, y, text in ((2.9, 2.55, "marks"), (11.1, 2.85, "rights"), (11.1, 0.2, "schema, check")):
        ax.text(x, y, text, ha="center", va="center", fontsize=8.5, fontweight="bold")
    ax.set(xlim=(0, 13.5), ylim=(-0.1, 3.2))
    ax.axis("off")
    return ax


def conversation_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each model and place where it ran: how many of the thirty ended well, and the mean cost of one."""
    import pandas as pd

    table = []
    for (model, provider), part in pd.DataFrame(rows).groupby(["model", "provider"], sort=False):
        joules = part["joules"].mean() if part["joules"].notna().any() else None
        table.append({"model": model, "where": provider, "ended well": str(Rate.of(part["came_about"]))})
        table[-1] |= {name: round(part[name].mean()) for name in ("prompt_tokens", "new_tokens", "seconds")}
        table[-1]["peak_memory_gib"] = part["peak_memory_gib"].max()
        table[-1]["joules"] = "not told here" if joules is None else round(joules)
    return pd.DataFrame(table)
