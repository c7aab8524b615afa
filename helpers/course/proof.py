"""The proof that the course is right, step by step: `python -m helpers.course.proof [--quick] [--nightly]`.

Style, types and the rooms' contracts beside the unit tests; then every notebook, two at a time, as two cores and 8 GB
allow; then, alone, the notebooks that compare times. Engines get one thread each, but for these last. Every step runs,
whatever the one before it said.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from helpers import machine
from helpers.data import ROOT

PYTHON = [sys.executable, "-m"]
IN_TWO = ["-n", "2", "--dist", "loadscope"]
#: Unit tests wait for processes and servers in a third of their time, so three processes fill two cores; a fourth costs
#: more to start than it fills. Each holds up to 3.4 GiB: so many GiB of memory, so many processes.
MEMORY_FOR_PROCESSES = ((12, "3"), (0, "2"))
#: Plugins whose import takes seconds in each process, for tests that use neither.
BARE = ["-p", "no:nbval", "-p", "no:schemathesis"]
#: No network and no bars; one thread for each engine, as two processes share two cores.
STILL = {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
# Some images of containers forbid Python to keep what it compiled: each of a hundred processes would do it again, and
# each of pytest's would rewrite the assertions of all tests.
STILL |= {"PYTHONDONTWRITEBYTECODE": ""}
ONE_THREAD = {"SLM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class ProofStep:
    """One command of the proof: its name, and what its environment has besides."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def style() -> list[ProofStep]:
    """What reads the code and runs none of it."""
    contracts = "from importlinter.cli import lint_imports_command as run; run()"
    return [
        ProofStep("ruff check", [*PYTHON, "ruff", "check", "."]),
        ProofStep("ruff format", [*PYTHON, "ruff", "format", "--check", "."]),
        ProofStep("contracts", [sys.executable, "-c", contracts]),
        ProofStep("mypy", [*PYTHON, "mypy", "helpers/"]),
    ]


def unit_and_notebooks(quick: bool = False, nightly: bool = False) -> list[ProofStep]:
    """The unit tests, then the notebooks."""
    left_out = [*(["engine"] if quick else []), *([] if nightly else ["nightly"])]
    chosen = " and ".join(f"not {marker}" for marker in left_out)
    here = machine.memory_gib()
    processes = next(count for least, count in MEMORY_FOR_PROCESSES if here >= least)
    spread = ["-n", processes, "--dist", "loadscope"]
    unit = ProofStep("unit tests", [*PYTHON, "pytest", "-m", chosen, *BARE, *spread], STILL | ONE_THREAD)
    return [unit] if quick else [unit, *notebooks()]


def classroom() -> ProofStep:
    """A class on loopback: a Hub, people, a model server, submissions of every kind; the nightly proof has it too."""
    return ProofStep("a class", [*PYTHON, "pytest", "tests/classroom", *BARE], STILL | ONE_THREAD)


def notebooks() -> list[ProofStep]:
    """Every notebook, two at once and the longest first, so that both processes end at about the same time.

    One with a cell tagged "alone", which compares times, comes after them and has the whole machine for itself.
    """
    nbval = [*PYTHON, "pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "-o", "timeout=0"]
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"), key=minutes, reverse=True)
    alone = [path.relative_to(ROOT).as_posix() for path in paths if is_tagged(path, "alone")]
    shared = [name for path in paths if (name := path.relative_to(ROOT).as_posix()) not in alone]
    return [
        # xdist would start with the one that has most cells.
        ProofStep("notebooks", [*nbval, *IN_TWO, "--no-loadscope-reorder", *shared], STILL | ONE_THREAD),
        ProofStep("notebooks that compare times", [*nbval, *alone], STILL),
    ]


def is_tagged(path: Path, tag: str) -> bool:
    """Whether a notebook has a cell with this tag."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return any(tag in cell["metadata"].get("tags", ()) for cell in cells)


def minutes(path: Path) -> float:
    """How long a notebook runs, as the README's table of measured times says; 0 where it does not."""
    row = rf"notebooks/{re.escape(path.name)}\).*?\|.*?\|\D*([\d.]+) (s|min)"
    said = re.search(row, (ROOT / "README.md").read_text(encoding="utf-8"))
    return float(said[1]) / (60 if said[2] == "s" else 1) if said else 0.0


def start(step: ProofStep, output: int | None = None) -> subprocess.Popen[bytes]:
    """The step's process, running in the course's folder."""
    environment = os.environ | step.environment
    return subprocess.Popen(step.command, cwd=ROOT, env=environment, stdout=output, stderr=output)


def at_once(steps: Sequence[ProofStep], live: ProofStep | None = None) -> list[int]:
    """Runs steps side by side and shows what each said, in order: their exit statuses.

    What `live` says, a step beside them, is shown at once; its status is the last.
    """
    statuses = []
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in steps]
        children = [start(step, file.fileno()) for step, file in zip(steps, files, strict=True)]
        for child in children:
            stack.callback(end, child)
        shown = [followed(live)] if live else []
        for step, child, file in zip(steps, children, files, strict=True):
            statuses.append(child.wait())
            file.seek(0)
            print(f"\n── {step.name}\n{file.read().decode('utf-8', 'replace').strip()}", flush=True)
    return [*statuses, *shown]


def followed(step: ProofStep) -> int:
    """Runs a step that shows its own progress: its exit status."""
    print(f"\n── {step.name}", flush=True)
    child = start(step)
    try:
        return child.wait()
    finally:
        end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ends a process that still runs, first politely."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def prove(quick: bool = False, nightly: bool = False) -> int:
    """Runs all steps and prints what each took; returns 1 when one failed, 0 otherwise."""
    began = time.monotonic()
    beside, (unit, *later) = style(), unit_and_notebooks(quick, nightly)
    statuses = at_once(beside, live=unit)
    results = [(step.name, status) for step, status in zip([*beside, unit], statuses, strict=True)]
    lines = [f"{time.monotonic() - began:6.1f} s  {', '.join(name for name, _ in results)}, side by side"]
    for step in later:
        started = time.monotonic()
        results.append((step.name, followed(step)))
        lines.append(f"{time.monotonic() - started:6.1f} s  {step.name}")
    failed = [name for name, status in results if status]
    print("\n── summary", *lines, f"{time.monotonic() - began:6.1f} s  in all", sep="\n")
    print(f"FAILED: {', '.join(failed)}" if failed else "All passed.", flush=True)
    return 1 if failed else 0


def interrupted(*_: object) -> NoReturn:
    """A polite kill is treated as Ctrl-C, so that the steps' processes end too."""
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 course.py test", description="Prove the course.")
    parser.add_argument("--quick", action="store_true", help="only what opens no engine")
    parser.add_argument("--nightly", action="store_true", help="with the tests that are slow for what they prove")
    parser.add_argument("--class", dest="classroom", action="store_true", help="only the tests of a class and its Hub")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, interrupted)
    try:
        return followed(classroom()) if asked.classroom else prove(asked.quick, asked.nightly)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
