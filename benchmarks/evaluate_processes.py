"""Seconds to evaluate the same items with one process ÷ with two, one thread each, and that the scores are the same.

python -m benchmarks.evaluate_processes [--task translation] [--limit 24] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.report import report
from helpers.intervals import Spread


def evaluation(task: str, limit: int, processes: int) -> dict[str, Any]:
    """What the command line reports, with the seconds of the whole command as `command_seconds`."""
    command = [sys.executable, "-m", "helpers.instruct.evaluate", "--task", task, "--limit", str(limit)]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--processes", str(processes)], capture_output=True, encoding="utf-8", errors="replace", check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | {"command_seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="translation")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    pairs = [[evaluation(asked.task, asked.limit, processes) for processes in (1, 2)] for _ in range(asked.repeats)]
    for one, two in pairs:
        if one["scores"] != two["scores"]:
            sys.exit(f"The scores differ: {one['scores']} with one process, {two['scores']} with two.")
    report(
        "evaluate_processes",
        speed_up=Spread.of([one["seconds"] / two["seconds"] for one, two in pairs]),
        speed_up_with_loading=Spread.of([one["command_seconds"] / two["command_seconds"] for one, two in pairs]),
        one_process_seconds=Spread.of([one["seconds"] for one, _ in pairs]),
        two_processes_seconds=Spread.of([two["seconds"] for _, two in pairs]),
    )


if __name__ == "__main__":
    main()
