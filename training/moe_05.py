"""Trains a mixture of experts and its dense twins for longer than a notebook may: `python -m training.moe_05`.

It writes data/moe_05.json, what every run's loss was on the way and how its experts divided the work, and data/moe_05,
one mixture to open. Every run reads the same tokens of the same texts. About half an hour on one idle core; what is
done is kept, a run that was stopped goes on from its checkpoint, and a GPU is used where there is one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from helpers import machine
from helpers.anatomy import count
from helpers.experts import mixture, routing
from helpers.experts.mixture import Size
from helpers.making import bpe, export, training
from helpers.making.training import LossRow
from helpers.models.files import home, remove, written_whole

DATA = Path(__file__).resolve().parent.parent / "data"
STORED, SHIPPED = DATA / "moe_05.json", DATA / "moe_05"
SIZE = Size()
STEPS, ROWS, LENGTH = 1000, 6, 128
SEEDS = 2
#: Held-out tokens of each kind that are stored beside the mixture.
HELD_TOKENS = 12_000
TWINS = ("dense, same active", "dense, same total")
#: The mixture a second time, without its balancing loss.
UNBALANCED = "mixture, not balanced"
NAMES = ("mixture", *TWINS, UNBALANCED)
CARD = Path(__file__).with_name("moe_05_card.md")


def looks(steps: int) -> set[int]:
    """The steps at which a run is judged on held-out text: often at first, then ten times along the way."""
    return {step for step in (25, 50) if step < steps} | {steps * n // 10 for n in range(1, 11)}


def contender(name: str, seed: int, size: Size = SIZE) -> Any:
    """The model of a run, with random weights."""
    return mixture.contenders(size, seed=seed)["mixture" if name == UNBALANCED else name]


class Watch:
    """Looks at a model's held-out loss now and then while it trains, and remembers what it saw, also in `log`.

    Seconds are the processor's own, without the looking: other programs on the machine hardly change them.
    """

    def __init__(self, model: Any, held: Any, steps: int, log: Path | None) -> None:
        self.model, self.held, self.at, self.log = model, held, looks(steps), log
        self.points: list[dict[str, Any]] = json.loads(log.read_text(encoding="utf-8")) if log and log.exists() else []
        self.seconds = self.points[-1]["seconds"] if self.points else 0.0
        self.clock = time.process_time()

    def __call__(self, rows: list[LossRow]) -> None:
        """Looks if it is time to."""
        if len(rows) not in self.at:
            return
        self.seconds += time.process_time() - self.clock
        losses = {kind: round(loss, 4) for kind, loss in mixture.held_out(self.model, self.held).items()}
        point = {"step": len(rows), "tokens": int(rows[-1]["tokens"]), "seconds": round(self.seconds, 1)}
        self.points.append(point | losses)
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_text(json.dumps(self.points), encoding="utf-8")
        self.model.train()
        self.clock = time.process_time()


def run(name: str, seed: int, ids: Any, held: Any, *, steps: int = STEPS, checkpoint: Path | None = None) -> Any:
    """(the trained model, what was seen of it); with a checkpoint, a run that was stopped goes on."""
    model = contender(name, seed)
    log = checkpoint.with_suffix(".json") if checkpoint else None
    if log and checkpoint and not checkpoint.exists():
        remove(log)
    watch = Watch(model, held, steps, log)
    training.train(
        model,
        mixture.balanced_batches(ids, rows=ROWS, length=LENGTH, seed=seed),
        steps=steps,
        loss=mixture.balanced_loss if name == "mixture" else training.next_token_loss,
        checkpoint=checkpoint,
        save_every=max(1, steps // 10),  # where it looks, so that the log and the checkpoint agree
        on_step=watch,
        label=f"{name}, seed {seed}",
        **SIZE.pace,
    )
    counted = count(model)
    found = {"name": name, "seed": seed, "total": counted.total, "active": counted.active, "points": watch.points}
    if name not in TWINS:
        table = routing.use(model, held)
        found["use"] = [row | {"share": round(row["share"], 4)} for row in table]
    return model, found


def ship_held_out(held: dict[str, torch.Tensor]) -> None:
    """Stores the tokens at the beginning of each kind's held-out text beside the mixture."""
    beginnings = {kind: ids[:HELD_TOKENS].to(torch.int16) for kind, ids in held.items()}
    mixture.HELD_OUT.write_bytes(save(beginnings))


def ship(model: Any, tokenizer: Any, held: dict[str, torch.Tensor]) -> None:
    """The mixture in 16 bits with its tokenizer, a card and what it was judged on, as a folder for transformers."""
    export.save_model(model.to(torch.float16), tokenizer, SHIPPED)
    ship_held_out(held)
    (SHIPPED / "README.md").write_text(CARD.read_text(encoding="utf-8"), encoding="utf-8")


def stored() -> dict[str, Any]:
    """What is stored so far."""
    found: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {"runs": []}
    return found


def settings(ids: Any) -> dict[str, Any]:
    """What every stored run must have been made with."""
    return {"steps": STEPS, "rows": ROWS, "length": LENGTH, "data": training.fingerprint(SIZE, ids)}


def store(found: dict[str, Any], made_with: dict[str, Any]) -> None:
    """Adds a run to what is stored, in the order of the names. Another process may have added some meanwhile."""
    runs = sorted([*stored()["runs"], found], key=lambda run: (NAMES.index(run["name"]), run["seed"]))
    head = made_with | {"machine": str(machine.describe())}
    with written_whole(STORED) as part:
        part.write_text(json.dumps(head | {"runs": runs}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Trains what the stored file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(range(SEEDS)), help="a process for each saves time"
    )
    asked = parser.parse_args()
    train, held_texts = mixture.texts()
    tokenizer = bpe.train_tokenizer([text for part in train.values() for text in part], SIZE.vocabulary)
    ids, held = mixture.encode_kinds(tokenizer, train), mixture.encode_kinds(tokenizer, held_texts)
    made_with = settings(ids)
    if stored()["runs"]:
        there = {name: value for name, value in stored().items() if name in made_with}
        training.require_same(there, made_with, f"What stands in {STORED.name}", f"Move {STORED} away to make it anew.")
    for name in NAMES:
        for seed in asked.seeds:
            if any((run["name"], run["seed"]) == (name, seed) for run in stored()["runs"]):
                continue
            checkpoint = home() / "moe_05" / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}.pt"
            model, found = run(name, seed, ids, held, checkpoint=checkpoint)
            if (name, seed) == ("mixture", 0):
                ship(model, tokenizer, held)
            store(found, made_with)
            for left in (checkpoint, checkpoint.with_suffix(".json")):
                remove(left)
            print(name, seed, found["points"][-1], flush=True)


if __name__ == "__main__":
    main()
