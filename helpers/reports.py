"""What a benchmark of engines found: as a table, several machines side by side, and as speed against quality."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import plots
from helpers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Square points of a marker for one GiB.
AREA = 220
#: The columns of the table by the names of a row's values.
COLUMNS = {
    "engine": "engine",
    "precision": "precision",
    "load_seconds": "load (s)",
    "ttft_seconds": "first token (s)",
    "prefill_tokens_per_second": "prefill (tokens/s)",
    "decode_tokens_per_second": "decode (tokens/s)",
    "spread": "lowest to highest",
    "peak_memory_gib": "memory (GiB)",
    "model_mb": "model (MB)",
    "engine_mb": "engine (MB)",
    "clear": "clear answers",
    "agreement_percent": "tokens agree (%)",
    "perplexity": "perplexity",
    "reason": "why not",
}


@dataclass(frozen=True, slots=True)
class Report:
    """One run on one machine: a row for each engine and precision, also for those that did not run."""

    machine: str
    date: str
    model: str
    threads: int
    rows: tuple[dict[str, Any], ...]

    def save(self, path: Path) -> None:
        """Writes the report as JSON."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Report:
        """The report that `save` wrote."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**found, "rows": tuple(found["rows"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path} is no report of this benchmark.", "Make one with --json FILE.") from error


def table(report: Report) -> pd.DataFrame:
    """The report for a reader: medians, with the spread of the decode rate, and why an engine did not run."""
    import pandas as pd

    rows = []
    for row in report.rows:
        low, high = row.get("decode_tokens_per_second_low"), row.get("decode_tokens_per_second_high")
        shown: dict[str, Any] = {"precision": row.get("precision") or ""}
        shown |= {"spread": f"{low:.3g} to {high:.3g}" if low and high else "", "reason": row.get("reason", "")}
        shown |= {f"{part}_mb": _mb(row.get(f"{part}_bytes")) for part in ("model", "engine")}
        rows.append({title: (row | shown).get(name) for name, title in COLUMNS.items()})
    return pd.DataFrame(rows).set_index(["engine", "precision"])


def side_by_side(reports: Iterable[Report], figure: str = "decode_tokens_per_second") -> pd.DataFrame:
    """One figure of several reports, a column a machine; two reports of one machine differ by their date."""
    import pandas as pd

    columns = {}
    for report in reports:
        name = f"{report.machine}, {report.date}, {report.threads} thread(s)"
        columns[name] = {(r["engine"], r["precision"]): r[figure] for r in report.rows if r.get(figure) is not None}
    found = pd.DataFrame(columns)
    found.index.names = ["engine", "precision"]
    return found


def speed_and_quality(
    rows: Sequence[Mapping[str, Any]], *, model: str = "smollm2-135m", ax: Axes | None = None
) -> Axes:
    """Decode rate against agreement with the reference; the area is the memory, the marker the engine.

    Colour is the model's family, as everywhere. Rows that did not run have no point.
    """
    ran = [row for row in rows if row.get("decode_tokens_per_second") and row.get("agreement_percent") is not None]
    if not ran:
        raise InvalidInput("No engine ran, so there is nothing to draw.", "Install one, as the table says.")
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if ax is None:
        import matplotlib.pyplot as plt

        plots.use_theme()
        ax = plt.subplots(layout="constrained")[1]
    for row in ran:
        x, y = row["decode_tokens_per_second"], row["agreement_percent"]
        arms = [[x - row["decode_tokens_per_second_low"]], [row["decode_tokens_per_second_high"] - x]]
        ax.errorbar(x, y, xerr=arms, fmt="none", **plots.SPREAD)
        style: dict[str, Any] = {"color": plots.colour(model), "marker": plots.marker(row["engine"]), "alpha": 0.75}
        ax.scatter(x, y, s=AREA * row["peak_memory_gib"], **style)
        ax.annotate(str(row["precision"]), (x, y), (0, 9), textcoords="offset points", ha="center", fontsize=7.5)
    for engine in dict.fromkeys(row["engine"] for row in ran):
        ax.scatter([], [], color="#666666", marker=plots.marker(engine), label=engine)
    for gib in (0.25, 1.0):
        ax.scatter([], [], s=AREA * gib, color="#DDDDDD", label=f"{gib:g} GiB")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), labelspacing=1.1)
    ax.set(xscale="log", xlabel="decode (tokens/s, log scale)", ylabel="tokens that agree with the reference (%)")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(top=ax.get_ylim()[1] + 4)
    ax.set_yticks([tick for tick in ax.get_yticks() if ax.get_ylim()[0] <= tick <= 100])
    return ax


def _mb(size: int | None) -> int | None:
    return None if size is None else round(size / 1e6)
