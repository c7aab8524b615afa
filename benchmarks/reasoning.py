"""Sixty sums in words on every rung: at once, step by step, as a program, and voted on; stored answer by answer.

    python -m benchmarks.reasoning [--rungs smollm2-135m …] [--parts answers repeat votes speed]

`answers` is greedy, `repeat` the same with other numbers in the same templates, `votes` several samples of each chain
and program. What is stored is not asked again, and a run that was stopped goes on. `speed` needs a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import keep
from helpers import machine
from helpers.data import FOLDER
from helpers.errors import InvalidInput
from helpers.intervals import Spread
from helpers.models.fetching import rungs
from helpers.reasoning.problems import SUMS_SEED, word_sums
from helpers.reasoning.ways import SHOWN_SUMS, WAYS_TO_ASK, Attempt, attempts
from helpers.server import Server, serve

STORED = FOLDER / "reasoning_08.json"
PARTS = ("answers", "repeat", "votes", "speed")
#: Rung → how many chains and how many programs are drawn for each problem. Of a model that is nearly always wrong, or
#: nearly always right, a vote decides little.
SAMPLES = {"smollm2-135m": (0, 0), "qwen2.5-coder-0.5b": (9, 3), "qwen2.5-coder-1.5b": (0, 0)}
TEMPERATURE, OTHER_NUMBERS = 0.7, 9
SLOTS, CONTEXT = 8, 768
#: How a speed is read: way, requests at once, problems. Of a batch only where votes were drawn.
SPEEDS = (*((way, 1, 3) for way in WAYS_TO_ASK), ("step by step", SLOTS, SLOTS), ("program", SLOTS, SLOTS))
SPEED_REPEATS = 3


def fingerprint() -> str:
    """Of all that an answer depends on beside the model."""
    problems = [dataclasses.asdict(one) for seed in (SUMS_SEED, OTHER_NUMBERS) for one in word_sums("test", seed=seed)]
    asked = {name: dataclasses.astuple(way) for name, way in WAYS_TO_ASK.items()}
    return hashlib.sha256(json.dumps([problems, SHOWN_SUMS, asked, TEMPERATURE], sort_keys=True).encode()).hexdigest()[
        :16
    ]


def read(path: Path) -> dict[str, Any]:
    """What is stored, where it belongs to today's problems and prompts; an empty result where there is none."""
    mark = fingerprint()
    if not path.is_file():
        return {"fingerprint": mark, "temperature": TEMPERATURE, "speed": [], "rows": []}
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if result["fingerprint"] != mark:
        raise InvalidInput(f"{path.name} holds answers to other problems.", "Move it away, or give --output.")
    return result


def wanted(rung: str, part: str, most: int) -> Iterator[tuple[str, int, list[int], float]]:
    """Of a part: way, seed of the numbers, the samples' numbers, temperature."""
    if part in ("answers", "repeat"):
        yield from ((way, SUMS_SEED if part == "answers" else OTHER_NUMBERS, [0], 0.0) for way in WAYS_TO_ASK)
    elif part == "votes":
        for way, samples in zip(("step by step", "program"), SAMPLES[rung], strict=True):
            yield way, SUMS_SEED, list(range(1, min(samples, most) + 1)), TEMPERATURE


def row_of(found: Attempt, rung: str, seed: int, problem: int) -> dict[str, Any]:
    """A stored answer; its text is kept where it is a chain of the first part."""
    about = {"model": rung, "seed": seed, "problem": problem, "way": found.way, "sample": found.sample}
    made = {"new_tokens": found.new_tokens, "cut": found.cut, "number": found.number, "right": found.right}
    kept = found.way == "step by step" and found.sample == 0 and seed == SUMS_SEED
    return {**about, **made, **({"text": found.text} if kept else {})}


def answer_all(server: Server, rung: str, part: str, result: dict[str, Any], path: Path, *, most: int) -> None:
    """Asks what is missing, eight at once, and stores it after every 24 answers."""
    rows: list[dict[str, Any]] = result["rows"]
    for way, seed, samples, temperature in wanted(rung, part, most):
        problems = word_sums("test", seed=seed)
        there = {(row["problem"], row["sample"]) for row in rows if _is_of(row, rung, seed, way)}
        pairs = [(number, one) for one in samples for number in range(len(problems))]
        missing = [pair for pair in pairs if pair not in there]
        for start in range(0, len(missing), 3 * SLOTS):
            asked = missing[start : start + 3 * SLOTS]
            made = attempts(server.route, rung, [(problems[n], one) for n, one in asked], way, temperature=temperature)
            rows += [row_of(found, rung, seed, n) for (n, _), found in zip(asked, made, strict=True)]
            keep(path, result)
        done = [row for row in rows if _is_of(row, rung, seed, way) and row["sample"] in samples]
        right, cut = sum(row["right"] for row in done), sum(row["cut"] for row in done)
        print(f"{rung}, {part}, {way}: {right} of {len(done)} right, {cut} cut off", flush=True)


def _is_of(row: dict[str, Any], rung: str, seed: int, way: str) -> bool:
    return (row["model"], row["seed"], row["way"]) == (rung, seed, way)


def speed(server: Server, rung: str, drawn: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """Tokens a second that a way writes, the reading of its prompt included, one at a time and eight at once."""
    found = []
    for way, at_once, count in SPEEDS:
        if at_once > 1 and (rung, way) not in drawn:
            continue
        rates = []
        for repeat in range(SPEED_REPEATS):
            # Other numbers each time, so that no prompt lies read in a slot; of every grade as many.
            problems = word_sums("test", seed=100 + repeat)
            asked = [(problem, repeat) for problem in problems[::7][:count]]
            started = time.perf_counter()
            made = list(attempts(server.route, rung, asked, way, temperature=TEMPERATURE, at_once=at_once))
            rates.append(sum(one.new_tokens for one in made) / (time.perf_counter() - started))
        row = {"model": rung, "way": way, "at_once": at_once, "machine": str(machine.describe())}
        found.append({**row, "tokens_per_second": dataclasses.asdict(Spread.of(rates))})
        print(f"{rung}, {way}, {at_once} at once: {Spread.of(rates)} tokens/s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="+", default=[rung.name for rung in rungs()], choices=list(SAMPLES))
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--samples", type=int, default=9, help="at most so many of each problem, for the votes")
    parser.add_argument("--output", type=Path, default=STORED)
    asked = parser.parse_args()
    result = read(asked.output)
    for rung in asked.rungs:
        with serve(rung, slots=SLOTS, context=CONTEXT, threads=machine.threads(), engines=1) as server:
            for part in [one for one in asked.parts if one != "speed"]:
                answer_all(server, rung, part, result, asked.output, most=asked.samples)
            if "speed" in asked.parts:
                others = [row for row in result["speed"] if row["model"] != rung]
                drawn = {(row["model"], row["way"]) for row in result["rows"] if row["sample"]}
                result["speed"] = [*others, *speed(server, rung, drawn)]
        keep(asked.output, result)


if __name__ == "__main__":
    main()
