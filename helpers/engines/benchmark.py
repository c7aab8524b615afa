"""Which engine runs it fastest here? Every engine and precision that runs, one table, one report.

    python -m helpers.engines.benchmark [--quick] [--engines llamacpp mlx] [--json here.json]
    python -m helpers.engines.benchmark --compare here.json there.json

Each line is a trial in a process of its own (see trial.py), so memory is honest, and a crash or an engine that is not
installed becomes a line with its reason. All trials of a run come one after the other on the same machine; compare the
seconds of two machines only as such, in two reports laid side by side. The plot sets speed against quality.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import catalog, machine, plots
from helpers.backends import engines
from helpers.data import ROOT
from helpers.engines import agreement
from helpers.engines.trial import Setting
from helpers.errors import CourseError, InvalidInput
from helpers.models import files, sources
from helpers.records import ModelCard

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


#: Square points of a marker for one GiB.
AREA = 220
#: The columns of the table by the names of a row's values.
HEADINGS = {
    "engine": "engine",
    "precision": "precision",
    "making_seconds": "made in (s)",
    "making_memory_gib": "made with (GiB)",
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
REFERENCE = ("transformers", "bf16")
#: Precisions of each engine; the first is what `--quick` measures. "own" is that of the model's GGUF file.
PRECISIONS: Mapping[str, tuple[str | None, ...]] = {
    "transformers": ("bf16", "fp32"),
    "llamacpp": ("own", "q8_0", "f16", "q4_0"),
    "onnx-genai": ("int4", "int8", "fp32"),
    "openvino": ("own", "q8_0"),
    "mlx": ("bf16", "int8", "int4"),
}
ALSO_QUICK = (("transformers", "fp32"),)
#: Seconds for the rates of a trial, its repeats, and after how many seconds a trial is given up.
QUICK, FULL = (1.5, 2, 300.0), (20.0, 5, 900.0)


#: The columns that only a run has which converted the model for an engine.
MAKING = ("making_seconds", "making_memory_gib")


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
        with files.written_whole(path) as part:
            part.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Report:
        """The report that `save` wrote."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**found, "rows": tuple(found["rows"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path} is no report of this benchmark.", "Make one with --json FILE.") from error


def report_table(report: Report) -> pd.DataFrame:
    """The report for a reader: medians, with the spread of the decode rate, and why an engine did not run.

    What an engine's form of the model took to make is told by the run that made it; the next finds it in the cache.
    """
    import pandas as pd

    rows = []
    for row in report.rows:
        low, high = row.get("decode_tokens_per_second_low"), row.get("decode_tokens_per_second_high")
        shown: dict[str, Any] = {"precision": row.get("precision") or ""}
        shown |= {"spread": f"{low:.3g} to {high:.3g}" if low and high else "", "reason": row.get("reason", "")}
        shown |= {f"{part}_mb": _mb(row.get(f"{part}_bytes")) for part in ("model", "engine")}
        rows.append({title: (row | shown).get(name) for name, title in HEADINGS.items()})
    unmade = [] if any("making_seconds" in row for row in report.rows) else [HEADINGS[name] for name in MAKING]
    return pd.DataFrame(rows).set_index(["engine", "precision"]).drop(columns=unmade)


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
    points = [(str(row["precision"]), row["decode_tokens_per_second"], row["agreement_percent"]) for row in ran]
    plots.name_points(ax, points, gap=7)
    return ax


def _mb(size: int | None) -> int | None:
    return None if size is None else round(size / 1e6)


def benchmark(
    chosen: Sequence[str] = (),
    *,
    model: str = "smollm2-135m",
    quick: bool = False,
    threads: int | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Report:
    """The report on these engines, or on all that compute here; the reference is always measured first.

    `tell` gets a line before each trial. `quick` takes fewer precisions, repeats and tokens.
    """
    card = catalog.card(model)
    threads = threads or machine.threads()
    seconds, repeats, patience = QUICK if quick else FULL
    rows = []
    for engine, precision in settings(chosen, quick=quick, own=card.gguf.precision if card.gguf else None):
        tell(f"{engine} {precision or ''}".strip())
        setting = Setting(engine, precision, model, threads, seconds, repeats, brief=quick)
        rows.append(unavailable(setting, card) or trial(setting, patience))
    _compare_answers(rows, card)
    return Report(str(machine.describe()), date.today().isoformat(), model, threads, tuple(rows))


def settings(
    chosen: Sequence[str] = (), *, quick: bool = False, own: str | None = "q4_1"
) -> list[tuple[str, str | None]]:
    """Each engine with each precision to measure, the reference first; `own` is the precision of the GGUF file."""
    local = [name for name, engine in engines().items() if not engine.hosted and name != "echo"]
    unknown = [name for name in chosen if name not in local]
    if unknown:
        raise InvalidInput(f"There is no engine {unknown[0]!r}.", f"Choose from {', '.join(local)}.")
    pairs: list[tuple[str, str | None]] = [REFERENCE]
    for name in chosen or local:
        every = [(name, precision) for precision in PRECISIONS.get(name, (None,))]
        pairs += [pair for pair in every if not quick or pair == every[0] or pair in ALSO_QUICK]
    return list(dict.fromkeys((name, own if precision == "own" else precision) for name, precision in pairs))


def unavailable(setting: Setting, card: ModelCard) -> dict[str, Any] | None:
    """The row of an engine that is not here, or that cannot run the model, without starting a process for it."""
    engine = engines()[setting.engine]
    reason = engine.missing() or engine.serves(card)
    return _failed(setting, reason) if reason else None


def trial(setting: Setting, patience: float) -> dict[str, Any]:
    """The row of one trial in a process of its own; its reason where it crashed, hung or was refused."""
    command = [sys.executable, "-m", "helpers.engines.trial", json.dumps(asdict(setting))]
    quiet = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUTF8": "1"}
    quiet["OMP_NUM_THREADS"] = str(setting.threads or 1)
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | quiet,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return _failed(setting, f"it was not ready after {patience:.0f} s")
    row = _last_json(done.stdout)
    if row is None:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return _failed(setting, f"its process ended with status {done.returncode}: {said[0][:200]}")
    if "making_seconds" in row:
        return row | trial(replace(setting, again=True), patience)
    return _failed(setting, row["reason"]) if "reason" in row else row


def _compare_answers(rows: list[dict[str, Any]], card: ModelCard) -> None:
    """Adds to each row how far its greedy answers agree with the reference's, in tokens of the model."""
    reference = next((r for r in rows if (r["engine"], r["precision"]) == REFERENCE and "answers" in r), None)
    if reference is None:
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(sources.folder(card) / "tokenizer.json"))

    def tokens(answer: str) -> list[int]:
        return list(tokenizer.encode(answer, add_special_tokens=False).ids)

    clear = {question["prompt"] for question in agreement.fixed_questions("clear")}
    for row in rows:
        pairs = [(prompt, reference["answers"][prompt], answer) for prompt, answer in row.get("answers", {}).items()
                 if prompt in reference["answers"]]  # fmt: skip
        if pairs:
            shares = [agreement.token_agreement(tokens(ours), tokens(theirs)) for _, ours, theirs in pairs]
            row["agreement_percent"] = 100 * sum(shares) / len(shares)
            same = [ours == theirs for prompt, ours, theirs in pairs if prompt in clear]
            row["clear"] = f"{sum(same)} of {len(same)}"


def _failed(setting: Setting, reason: str) -> dict[str, Any]:
    return {"engine": setting.engine, "precision": setting.precision, "reason": " ".join(reason.split())}


def _last_json(text: str) -> dict[str, Any] | None:
    """The last line that is JSON; engines print lines of their own."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            return found
    return None


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.engines.benchmark", description="Measure every engine here."
    )
    parser.add_argument("--engines", nargs="+", default=[], help="only these, and the reference")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--threads", type=int, help="threads of each engine")
    parser.add_argument("--quick", action="store_true", help="fewer precisions, repeats and tokens")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="FILE", help="lay reports side by side instead")
    asked = parser.parse_args(arguments)
    try:
        if asked.compare:
            print(side_by_side([Report.load(path) for path in asked.compare]).round(1).to_string())
            return 0
        options = {"model": asked.model, "quick": asked.quick, "threads": asked.threads}
        report = benchmark(asked.engines, **options, tell=lambda line: print(f"… {line}", file=sys.stderr, flush=True))
        if asked.json:
            report.save(asked.json)
        print(report_table(report).round(2).to_string(na_rep=""))
        print(report.machine)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
