"""Sixty sums in words on every rung: at once, step by step, as a program, and voted on; stored answer by answer.

python -m benchmarks.reasoning [--model smollm2-135m …] [--parts answers votes speed] [--output data/reasoning_08.json]

Resumable: what is stored is not asked again. `speed` needs a machine that does nothing else.
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

from helpers import catalog, machine
from helpers.data import FOLDER
from helpers.intervals import Spread
from helpers.models import sources
from helpers.reasoning.problems import WordSum, word_sums
from helpers.reasoning.ways import WAYS_TO_ASK, attempts
from helpers.server import Server, serve

#: Model → how many chains are drawn for the votes.
VOTES = {"smollm2-135m": 5, "qwen2.5-coder-0.5b": 9, "qwen2.5-coder-1.5b": 5}
TEMPERATURE = 0.7
SLOTS, CONTEXT = 8, 768
#: A speed is read on so many problems, so many times.
SPEED_PROBLEMS, SPEED_REPEATS = 8, 3


def fingerprint(problems: list[WordSum]) -> str:
    """Of all that an answer depends on beside the model."""
    material = [[dataclasses.asdict(one) for one in problems], WAYS_TO_ASK, TEMPERATURE]
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def save(path: Path, result: dict[str, Any]) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def read(path: Path, problems: list[WordSum]) -> dict[str, Any]:
    """What is stored, where it belongs to these problems."""
    mark = fingerprint(problems)
    if path.is_file():
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if result["fingerprint"] == mark:
            return result
        raise SystemExit(f"{path.name} holds answers to other problems or prompts: move it away, or give --output.")
    return {"fingerprint": mark, "temperature": TEMPERATURE, "models": {}}


def answers_wanted(model: str, part: str) -> Iterator[tuple[str, list[int], float]]:
    """Each way of a part with its samples and temperature."""
    if part == "answers":
        yield from ((way, [0], 0.0) for way in WAYS_TO_ASK)
    elif part == "votes":
        yield "step by step", list(range(1, VOTES[model] + 1)), TEMPERATURE


def answer_all(
    server: Server, model: str, part: str, problems: list[WordSum], result: dict[str, Any], path: Path
) -> None:
    rows: list[dict[str, Any]] = result["models"][model]["rows"]
    there = {(row["question"], row["way"], row["sample"]) for row in rows}
    for way, samples, temperature in answers_wanted(model, part):
        pairs = [(problem, one) for problem in problems for one in samples]
        missing = [(problem, one) for problem, one in pairs if (problem.question, way, one) not in there]
        for start in range(0, len(missing), 3 * SLOTS):
            asked = missing[start : start + 3 * SLOTS]
            rows += [one.row() for one in attempts(server.route, model, asked, way, temperature=temperature)]
            save(path, result)
        done = [row for row in rows if row["way"] == way and (row["sample"] == 0) == (samples == [0])]
        right, cut = sum(row["right"] for row in done), sum(row["cut"] for row in done)
        print(f"{model}, {way}, T={temperature}: {right} of {len(done)} right, {cut} cut off", flush=True)


def speed(server: Server, model: str, problems: list[WordSum]) -> dict[str, Any]:
    """Tokens a second of one request at a time and of eight, on chains; and seconds of a problem asked at once."""
    found: dict[str, Any] = {"machine": str(machine.describe())}
    for name, way, at_once in (("alone", "step by step", 1), ("batch", "step by step", SLOTS), ("short", "at once", 1)):
        rates, seconds = [], []
        for _ in range(SPEED_REPEATS):
            started = time.perf_counter()
            asked = [(problem, 0) for problem in problems[-SPEED_PROBLEMS:]]
            made = list(attempts(server.route, model, asked, way, at_once=at_once))
            took = time.perf_counter() - started
            rates.append(sum(one.new_tokens for one in made) / took)
            seconds.append(took / len(made))
        found[name] = {
            "tokens_per_second": dataclasses.asdict(Spread.of(rates)),
            "seconds_per_problem": dataclasses.asdict(Spread.of(seconds)),
        }
        print(f"{model}, {name}: {Spread.of(rates)} tokens/s, {Spread.of(seconds)} s a problem", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(VOTES))
    parser.add_argument("--parts", nargs="+", choices=["answers", "votes", "speed"], default=["answers", "votes"])
    parser.add_argument("--output", type=Path, default=FOLDER / "reasoning_08.json")
    asked = parser.parse_args()
    problems = word_sums("test")
    result = read(asked.output, problems)
    for model in asked.model or list(VOTES):
        file = sources.gguf(catalog.card(model))
        entry = result["models"].setdefault(model, {"file": file.name, "rows": []})
        with serve(model, slots=SLOTS, context=CONTEXT, threads=machine.threads(), engines=1) as server:
            for part in asked.parts:
                answer_all(server, model, part, problems, result, asked.output)
            if "speed" in asked.parts:
                entry["speed"] = speed(server, model, problems)
        save(asked.output, result)


if __name__ == "__main__":
    main()
