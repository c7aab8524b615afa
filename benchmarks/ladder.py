"""What does size buy? All items of all tasks of the course, on models of 135 million, 0.5 and 1.5 billion parameters.

    python -m benchmarks.ladder                          every part but speed, on every rung
    python -m benchmarks.ladder --parts speed            on a machine that does nothing else
    python -m benchmarks.ladder --rungs smollm2-135m --parts translation --limit 3      a quick try, not stored
    python -m benchmarks.ladder --read-again             the stored answers, scored as today; asks no model
    python -m benchmarks.ladder --show                   the stored table

A rung and a part make one unit. What a unit found is stored in data/ladder.json as soon as it is done, so a run that is
killed goes on where it was. A unit is made again when its model's file, its items or its cap on new tokens changed.
The caps are generous, since an answer that is cut off says nothing: how many were is stored with each score.

Scores by log-likelihood can be confirmed by a second program, EleutherAI's lm-evaluation-harness, which asks the same
hundred questions as a task of its own (comprehension.yaml, beside this file): its `acc_norm` is the share that
`comprehension` finds. It is no dependency of the course; in an environment of its own:

    pip install "lm_eval[hf]==0.4.13"
    lm_eval run --model hf --model_args pretrained=FOLDER,dtype=float32 --tasks comprehension --include_path benchmarks

FOLDER is what `helpers.models.sources.folder(card("smollm2-135m"))` returns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.ladder_parts import DATA, PARTS, Row, Task
from benchmarks.ladder_table import differences, figure, markdown, scores
from helpers import catalog, machine
from helpers.chat import Chat, open_chat
from helpers.errors import CourseError
from helpers.models import files, local, sources

RESULT = DATA / "ladder.json"
RUNGS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
PACKAGES = ("xllamacpp", "transformers", "torch", "sacrebleu")


class Rung:
    """A model by its name, opened when it is first asked for, on one backend at a time."""

    def __init__(self, name: str, path: str | None = None, threads: int = 1) -> None:
        self.name, self.model, self.threads = name, path or name, threads
        self._open: Chat | None = None
        card = local.card_of_path(Path(path)) if path else catalog.card(name)
        named = [one for one in catalog.cards() if one.name == name]
        file = sources.gguf(card)
        self.entry = {
            "name": name,
            # A file that stores the output matrix apart holds more numbers than the model has parameters.
            "parameters": (named or [card])[0].parameters,
            "file": file.name,
            "bytes": file.stat().st_size,
            "sha256": files.sha256(file),
        }

    def chat(self, backend: str) -> Chat:
        """The model on that backend; what ran it before is closed, so that memory holds it once."""
        if self._open is None or self._open.backend.name != backend:
            self.close()
            self._open = open_chat(self.model, backend=backend, threads=self.threads)
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


def made_from(rung: Mapping[str, Any], part: str) -> Row:
    """What a unit's scores depend on: where one of these changed, the unit is to be made again."""
    material = json.dumps(PARTS[part].material(), sort_keys=True, ensure_ascii=False, default=str)
    return {
        "rung": rung["name"],
        "part": part,
        "model_sha256": rung["sha256"],
        "items_sha256": hashlib.sha256(material.encode()).hexdigest(),
        "cap": PARTS[part].cap,
    }


def unit(rung: Rung, part: str, limit: int | None = None) -> Row:
    """One part asked of one rung: its rows, their cost, and where and with what they were made."""
    load, started = os.getloadavg()[0], time.perf_counter()
    rows = PARTS[part].rows(rung, limit)
    return made_from(rung.entry, part) | {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": str(machine.describe()),
        "backend": PARTS[part].backend,
        "precision": machine.precision() if PARTS[part].backend == "transformers" else "as in the file",
        "threads": rung.threads,
        "load_before": round(load, 2),
        "packages": {name: version(name) for name in PACKAGES},
        "seconds": round(time.perf_counter() - started, 1),
        "cut": sum(bool(row.get("cut")) for row in rows),
        "rows": [_plain(row) for row in rows],
    }


def load(path: Path) -> Row:
    """What is stored, or nothing yet."""
    if not path.exists():
        return {"rungs": [], "scores": [], "differences": [], "units": []}
    stored: Row = json.loads(path.read_text(encoding="utf-8"))
    return stored


def is_done(stored: Row, rung: Mapping[str, Any], part: str) -> bool:
    """Whether a unit is stored that was made from just this."""
    wanted = made_from(rung, part)
    return any(wanted.items() <= one.items() for one in stored["units"])


def store(path: Path, rung: Mapping[str, Any], made: Row) -> None:
    """Puts a unit in the place of its forerunner. The file is whole at any time, and two processes may write to it."""
    with FileLock(Path(tempfile.gettempdir()) / f"{path.name}.lock"):
        stored = load(path)
        known = {one["name"]: one for one in stored["rungs"]} | {rung["name"]: dict(rung)}
        units = {(one["rung"], one["part"]): one for one in stored["units"]} | {(made["rung"], made["part"]): made}
        # A unit of another file of this model would stand beside scores that do not compare with it.
        kept = [one for one in units.values() if one["model_sha256"] == known[one["rung"]]["sha256"]]
        _write(path, list(known.values()), kept)


def read_again(path: Path) -> None:
    """Scores the stored answers as they would be scored today, without asking a model."""
    with FileLock(Path(tempfile.gettempdir()) / f"{path.name}.lock"):
        stored = load(path)
        _write(path, stored["rungs"], [one | {"rows": rows_as_read_today(one)} for one in stored["units"]])


def rows_as_read_today(made: Row) -> list[Row]:
    """A unit's rows, the measures of its answers new; what a log-likelihood or a tool decided stays."""
    part = PARTS[made["part"]]
    return [_plain(row) for row in part.read_again(made["rows"])] if isinstance(part, Task) else made["rows"]


def _write(path: Path, rungs: list[Row], units: list[Row]) -> None:
    rungs = sorted(rungs, key=lambda one: one["parameters"])
    content = {"rungs": rungs, "scores": scores(rungs, units), "differences": differences(rungs, units)}
    with files.written_whole(path) as part:
        part.write_text(_text(content | {"units": units}) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Numbers as JSON has them: none of numpy's, no more than four digits after the point, None for what is unknown."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value


def _text(value: Any, pad: str = "") -> str:
    """JSON in which each row has a line of its own, so that a change can be read."""

    def is_table(one: Any) -> bool:
        return isinstance(one, list) and bool(one) and isinstance(one[0], dict)

    inner = pad + " "
    if is_table(value):
        return "[\n" + ",\n".join(inner + _text(row, inner) for row in value) + f"\n{pad}]"
    if isinstance(value, dict) and any(map(is_table, value.values())):
        lines = [f"{inner}{json.dumps(key)}: {_text(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{pad}}}"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def run(rungs: list[Rung], parts: list[str], limit: int | None, path: Path | None) -> bool:
    """Makes and stores every unit that is not stored yet; whether all of them could be made."""
    whole = True
    for rung in rungs:
        for part in parts:
            if path and is_done(load(path), rung.entry, part):
                print(f"{rung.name}, {part}: stored already", flush=True)
                continue
            try:
                made = unit(rung, part, limit)
            except CourseError as error:
                print(f"{rung.name}, {part}: {error}", flush=True)
                whole = False
                continue
            if path:
                store(path, rung.entry, made)
            print(
                f"{rung.name}, {part}: {len(made['rows'])} rows, {made['cut']} cut off, {made['seconds']} s", flush=True
            )
            if limit or part == "speed":
                print("\n".join(json.dumps(row, ensure_ascii=False) for row in made["rows"]), flush=True)
        rung.close()
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="+", default=RUNGS, metavar="NAME", help="models, by their names")
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=f"of {'; '.join(PARTS)}")
    parser.add_argument("--limit", type=int, help="only the first so many items, and nothing is stored")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--file", action="append", default=[], metavar="NAME=PATH", help="a rung's GGUF file or folder")
    parser.add_argument("--result", type=Path, default=RESULT, help="where the units are stored")
    parser.add_argument("--read-again", action="store_true", help="only score the stored answers anew")
    parser.add_argument("--show", action="store_true", help="only print the stored table")
    parser.add_argument("--figure", help="also draw the figure of the README into this file")
    asked = parser.parse_args()
    whole = True
    if asked.read_again:
        read_again(asked.result)
    elif not asked.show:
        paths = dict(one.split("=", 1) for one in asked.file)
        rungs = [Rung(name, paths.get(name), asked.threads) for name in asked.rungs]
        parts = asked.parts or [part for part in PARTS if part != "speed"]
        whole = run(rungs, parts, asked.limit, None if asked.limit else asked.result)
    stored = load(asked.result)
    print(markdown(stored))
    if asked.figure:
        figure(stored, asked.figure)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
