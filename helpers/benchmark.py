"""Which engine runs it fastest here? Every engine and precision that runs, one table, one report.

    python -m helpers.benchmark [--quick] [--engines llamacpp mlx] [--json here.json]
    python -m helpers.benchmark --compare here.json there.json

Each line is a trial in a process of its own (see trial.py), so memory is honest, and a crash or an engine that is not
installed becomes a line with its reason. All trials of a run come one after the other on the same machine; compare the
seconds of two machines only as such, in two reports laid side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

from helpers import agreement, catalog, machine, weights
from helpers.backends import engines
from helpers.errors import CourseError, InvalidInput
from helpers.records import ModelCard
from helpers.reports import Report, side_by_side, table
from helpers.trial import Setting

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ("transformers", "bf16")
#: Precisions of each engine; the first is what `--quick` measures, and None the engine's own.
PRECISIONS: Mapping[str, tuple[str | None, ...]] = {
    "transformers": ("bf16", "fp32"),
    "llamacpp": ("q4_1", "q8_0", "f16", "q4_0"),
    "onnx-genai": ("int4", "int8", "fp32"),
    "openvino": ("q4_1", "q8_0"),
    "mlx": ("bf16", "int8", "int4"),
}
ALSO_QUICK = (("transformers", "fp32"), ("llamacpp", "q8_0"))
#: Seconds for the rates of a trial, its repeats, and after how many seconds a trial is given up.
QUICK, FULL = (1.5, 2, 300.0), (20.0, 5, 900.0)


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
    for engine, precision in settings(chosen, quick=quick):
        tell(f"{engine} {precision or ''}".strip())
        setting = Setting(engine, precision, model, threads, seconds, repeats, brief=quick)
        rows.append(unavailable(setting, card) or trial(setting, patience))
    _compare_answers(rows, card)
    return Report(str(machine.describe()), date.today().isoformat(), model, threads, tuple(rows))


def settings(chosen: Sequence[str] = (), *, quick: bool = False) -> list[tuple[str, str | None]]:
    """Each engine with each precision to measure, the reference first."""
    local = [name for name, engine in engines().items() if not engine.hosted and name != "echo"]
    unknown = [name for name in chosen if name not in local]
    if unknown:
        raise InvalidInput(f"There is no engine {unknown[0]!r}.", f"Choose from {', '.join(local)}.")
    pairs: list[tuple[str, str | None]] = [REFERENCE]
    for name in chosen or local:
        every = [(name, precision) for precision in PRECISIONS.get(name, (None,))]
        pairs += [pair for pair in every if not quick or pair == every[0] or pair in ALSO_QUICK]
    return list(dict.fromkeys(pairs))


def unavailable(setting: Setting, card: ModelCard) -> dict[str, Any] | None:
    """The row of an engine that is not here, or that cannot run the model, without starting a process for it."""
    engine = engines()[setting.engine]
    reason = engine.missing() or engine.serves(card)
    return _failed(setting, reason) if reason else None


def trial(setting: Setting, patience: float) -> dict[str, Any]:
    """The row of one trial in a process of its own; its reason where it crashed, hung or was refused."""
    command = [sys.executable, "-m", "helpers.trial", json.dumps(asdict(setting))]
    quiet = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": str(setting.threads or 1)}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, timeout=patience
        )
    except subprocess.TimeoutExpired:
        return _failed(setting, f"it was not ready after {patience:.0f} s")
    row = _last_json(done.stdout)
    if row is None:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return _failed(setting, f"its process ended with status {done.returncode}: {said[0][:200]}")
    if row.get("made"):
        return trial(replace(setting, again=True), patience)
    return _failed(setting, row["reason"]) if "reason" in row else row


def _compare_answers(rows: list[dict[str, Any]], card: ModelCard) -> None:
    """Adds to each row how far its greedy answers agree with the reference's, in tokens of the model."""
    reference = next((r for r in rows if (r["engine"], r["precision"]) == REFERENCE and "answers" in r), None)
    if reference is None:
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(weights.folder(card) / "tokenizer.json"))

    def tokens(answer: str) -> list[int]:
        return list(tokenizer.encode(answer, add_special_tokens=False).ids)

    clear = {question["prompt"] for question in agreement.questions("clear")}
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
    parser = argparse.ArgumentParser(prog="python -m helpers.benchmark", description="Measure every engine here.")
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
        print(table(report).round(2).to_string(na_rep=""))
        print(report.machine)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
