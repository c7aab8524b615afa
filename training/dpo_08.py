"""Trains SmolLM2-135M by DPO on fifty pairs of its own answers, and stores what changed and what it cost.

    python -m training.dpo_08            what data/dpo_08.json lacks, about fifteen minutes on one core
    python -m training.dpo_08 --runs 1   only so many runs of it

A run is stored as soon as it is done; one that was stopped goes on from its checkpoint. Before the first step, half-way
and after the last the model answers questions that are in no pair, and reads texts of others.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import transformers
import trl
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from helpers.data import stored
from helpers.making import finetuning, training
from helpers.reasoning import preferences, trainers, warmup
from training.runs import StoredRuns

SEEDS = (0, 1, 2)
#: Ten steps are one reading of all pairs and enough for what is preferred; ten more show what comes of going on.
ROWS, STEPS, LOOKS = 5, 20, 10
BETA, LEARNING_RATE = 0.1, 1e-3


def settings() -> dict[str, Any]:
    """What every stored run must have been made with."""
    read = [one["text"] for one in stored("instruct_summarisation")["items"]]
    asked = [*preferences.talk_questions(), *preferences.talk_questions(held=True)]
    return {
        "model": "smollm2-135m",
        "pairs": preferences.PAIRS,
        "rows": ROWS,
        "adapter": [warmup.RANK, *warmup.UPPER_LAYERS],
        "steps": STEPS,
        "beta": BETA,
        "learning_rate": LEARNING_RATE,
        "longest_talk": preferences.LONGEST_TALK,
        "versions": {"trl": trl.__version__, "transformers": transformers.__version__},
        "data": training.fingerprint(*asked, *read),
    }


def run(seed: int, pairs: list[dict[str, str]], shorts: list[dict[str, str]], folder: Path) -> dict[str, Any]:
    """What one run changed: the trainer's own rows, and ours where it was looked at."""
    model, tokenizer = finetuning.base()
    look = preferences.preferred_look(tokenizer, shorts)
    args = DPOConfig(
        **trainers.laptop(folder),
        max_steps=STEPS,
        save_steps=LOOKS,
        save_total_limit=1,
        per_device_train_batch_size=ROWS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        beta=BETA,
        seed=seed,
    )
    trainer = DPOTrainer(
        warmup.upper_adapter(model, seed=seed),
        args=args,
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        callbacks=[trainers.watch(look, every=LOOKS)],
    )
    trainers.quiet(trainer).train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    return {"seed": seed, "points": trainers.curve(trainer), "pairs": pairs[:2]}


def main() -> None:
    """Trains what the stored file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=len(SEEDS), help="at most so many")
    left, runs = parser.parse_args().runs, StoredRuns("dpo_08", settings())
    pairs, shorts = (make(*finetuning.base()) for make in (preferences.preference_pairs, preferences.held_shorts))
    for seed in SEEDS:
        if left < 1 or any(one["seed"] == seed for one in runs.read()):
            continue
        folder = runs.checkpoints(seed)
        found = run(seed, pairs, shorts, folder)
        runs.add(found)
        shutil.rmtree(folder)
        left -= 1
        print(seed, found["points"][-1], flush=True)


if __name__ == "__main__":
    main()
