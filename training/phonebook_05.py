"""Trains mixtures and dense models on phone books and on sums, and stores what they learnt.

    python -m training.phonebook_05            what data/phonebook_05.json lacks, about an hour on one core
    python -m training.phonebook_05 --runs 4   only so many runs of it

A run is stored as soon as it is done; one that was stopped goes on from its checkpoint. The most telling runs come
first: the book that the small dense model cannot hold, with every seed, then the sums, then other sizes of the book.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers import machine
from helpers.anatomy import count
from helpers.experts import phonebook
from helpers.experts.phonebook import RIVAL, RIVALS, Drill
from helpers.making import training
from helpers.making.training import LossRow
from helpers.models.files import home, remove, written_whole

STORED = Path(__file__).resolve().parent.parent / "data" / "phonebook_05.json"
#: How often a row is read. A book takes more readings than a rule.
PASSES = {"book": 60, "sums": 16}
ROWS, PEAK, LAYERS = 128, 8e-3, 1.0
SEEDS = (0, 1, 2)
BOOK, OTHER_BOOKS, SUMS = 4000, (8000, 2000), 9000
#: (drill, size, seed), the most telling first.
ORDER = [
    ("book", BOOK, 0),
    ("sums", SUMS, 0),
    *[("book", BOOK, seed) for seed in SEEDS[1:]],
    *[("book", size, 0) for size in OTHER_BOOKS],
    *[("sums", SUMS, seed) for seed in SEEDS[1:]],
    *[("book", size, seed) for seed in SEEDS[1:] for size in OTHER_BOOKS],
]
#: How often a run is looked at on its way.
LOOKS = 10


def drill_of(kind: str, size: int, seed: int) -> Drill:
    """The book or the sums of a run; another seed is another book."""
    return phonebook.phone_book(size, seed=seed) if kind == "book" else phonebook.sums(size, seed=seed)


class Watch:
    """Looks at what a model recalls, ten times along its training, and keeps it in `log` beside the checkpoint."""

    def __init__(self, model: Any, drill: Drill, steps: int, log: Path) -> None:
        self.model, self.drill, self.steps, self.log = model, drill, steps, log
        self.points: list[dict[str, Any]] = json.loads(log.read_text(encoding="utf-8")) if log.exists() else []
        self.spent = self.points[-1]["seconds"] if self.points else 0.0
        self.clock = time.process_time()

    def __call__(self, rows: list[LossRow]) -> None:
        """Looks if it is time to; seconds are the processor's own, without the looking."""
        if len(rows) % max(1, self.steps // LOOKS) and len(rows) != self.steps:
            return
        self.spent += time.process_time() - self.clock
        seen = {}
        for side in ("practised", "held"):
            found = phonebook.recall(self.model, getattr(self.drill, side), self.drill.asked)
            seen |= {f"{side}_{name}": round(share, 4) for name, share in found.items()}
        self.points.append({"step": len(rows), "seconds": round(self.spent, 1)} | seen)
        self.log.write_text(json.dumps(self.points), encoding="utf-8")
        self.clock = time.process_time()


def run(kind: str, size: int, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """What one model learnt: its sizes, and the shares that it had right on the way."""
    drill, model = drill_of(kind, size, seed), phonebook.rivals(seed=seed)[name]
    steps = phonebook.steps_of(drill, PASSES[kind], ROWS)
    checkpoint = folder / f"{kind}-{size}-{name.replace(', ', '-').replace(' ', '-')}-{seed}.pt"
    log = checkpoint.with_suffix(".json")
    folder.mkdir(parents=True, exist_ok=True)
    if not checkpoint.exists():
        remove(log)
    watch = Watch(model, drill, steps, log)
    training.train(
        model,
        phonebook.drill_batches(drill, rows=ROWS, seed=seed),
        steps=steps,
        peak=PEAK,
        layers=LAYERS,
        loss=phonebook.recall_loss(drill.asked),
        checkpoint=checkpoint,
        save_every=max(1, steps // LOOKS),  # where it looks, so that the log and the checkpoint agree
        on_step=watch,
        label=f"{kind} {size}, {name}, seed {seed}",
    )
    counted = count(model)
    for left in (checkpoint, log):
        remove(left)
    found = {"drill": kind, "size": size, "model": name, "seed": seed, "steps": steps}
    return found | {"total": counted.total, "active": counted.active, "points": watch.points}


def settings() -> dict[str, Any]:
    """What every stored run must have been made with."""
    data = training.fingerprint(*(drill_of(kind, 1000, 0).practised for kind in ("book", "sums")))
    return {
        "shape": asdict(RIVAL),
        "passes": PASSES,
        "rows": ROWS,
        "peak": PEAK,
        "layers": LAYERS,
        "data": data,
    }


def stored_runs(made_with: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that are stored; those made with other settings are refused."""
    if not STORED.exists():
        return []
    found = json.loads(STORED.read_text(encoding="utf-8"))
    there = {name: found.get(name) for name in made_with}
    training.require_same(there, made_with, f"What stands in {STORED.name}", f"Move {STORED} away to make it anew.")
    return list(found["runs"])


def store(runs: list[dict[str, Any]], made_with: dict[str, Any]) -> None:
    """Writes all runs, a line each."""
    runs = sorted(runs, key=lambda r: (r["drill"], r["size"], RIVALS.index(r["model"]), r["seed"]))
    head = json.dumps(made_with | {"machine": str(machine.describe())}, ensure_ascii=False)[1:-1]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in runs)
    with written_whole(STORED) as part:
        part.write_text(f'{{{head},\n"runs": [\n{lines}\n]}}\n', encoding="utf-8")


def main() -> None:
    """Trains what the stored file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="at most so many")
    left, made_with = parser.parse_args().runs, settings()
    for kind, size, seed in ORDER:
        for name in RIVALS:
            runs = stored_runs(made_with)
            if left < 1 or any(
                (r["drill"], r["size"], r["model"], r["seed"]) == (kind, size, name, seed) for r in runs
            ):
                continue
            found = run(kind, size, name, seed, home() / "phonebook_05")
            store([*runs, found], made_with)
            left -= 1
            print(kind, size, seed, name, found["points"][-1], flush=True)


if __name__ == "__main__":
    main()
