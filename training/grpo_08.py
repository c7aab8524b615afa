"""Trains SmolLM2-135M by GRPO on small sums in words, and stores what came of it.

    python -m training.grpo_08            what data/grpo_08.json lacks, about an hour on one core
    python -m training.grpo_08 --only cold-0 checked-1   only these of it

Five runs: three seeds from a short supervised warm-up, one that is paid by a reward with a hole, and one without the
warm-up. A run is stored as soon as it is done; one that was stopped goes on from its checkpoint. Every so many steps
the model answers problems of templates that no run is trained on.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import transformers
import trl
from trl import GRPOConfig, GRPOTrainer

from helpers.making import training
from helpers.reasoning import grpo, rewards, trainers, warmup
from helpers.reasoning.problems import word_sums
from helpers.reasoning.rewards import checked_reward, holed_reward
from training.runs import StoredRuns

#: kind → its reward, the steps of its warm-up and of its training. Without a warm-up the prompt asks for the form.
KINDS = {
    "checked": (checked_reward, warmup.STEPS, 36),
    "cold": (checked_reward, 0, 12),
    "holed": (holed_reward, warmup.STEPS, 24),
}
ORDER = [("checked", 0), ("cold", 0), ("holed", 0), ("checked", 1), ("checked", 2)]
#: A step: answers to so many questions, so many each.
QUESTIONS, ANSWERS = 2, 6
LEARNING_RATE, LOOKS = 3e-4, 12
#: Held-out problems, five of each template; the training's are drawn by the seed of the run.
HELD = 45


def settings() -> dict[str, Any]:
    """What every stored run must have been made with."""
    prompts = [(one.question, one.expression, one.answer) for one in [*trained_on(0), *held()]]
    warm = [warmup.worked(one) for one in word_sums("train", count=warmup.EXAMPLES, seed=warmup.WARM_SEED)]
    paid = (rewards.OPENS, rewards.CLOSES, rewards.ENDS, rewards.RIGHT, rewards.LONG_CHAIN, rewards.WHOLE.pattern)
    return {
        "model": "smollm2-135m",
        "steps": {kind: list(steps) for kind, (_, *steps) in KINDS.items()},
        "warm_up": [warmup.EXAMPLES, warmup.ROWS, warmup.PEAK, warmup.RANK, *warmup.UPPER_LAYERS],
        "questions": QUESTIONS,
        "answers": ANSWERS,
        "longest_answer": grpo.LONGEST_ANSWER,
        "learning_rate": LEARNING_RATE,
        "held": HELD,
        "versions": {"trl": trl.__version__, "transformers": transformers.__version__},
        "data": training.fingerprint(warmup.SUM_PROMPT, warmup.FORM_ASKED, *prompts, *warm, *paid),
    }


def trained_on(seed: int) -> list[Any]:
    """The problems of one run: as many as its steps ask."""
    return word_sums("train", count=QUESTIONS * max(steps for _, _, steps in KINDS.values()), seed=seed)


def held() -> list[Any]:
    """The problems that every run is looked at by."""
    return word_sums("held", count=HELD)


def run(kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """What one run learnt: a row a step."""
    reward, warm_steps, steps = KINDS[kind]
    told = not warm_steps
    model, tokenizer, _ = warmup.warmed(seed=seed, steps=warm_steps)
    args = GRPOConfig(
        **trainers.laptop(folder),
        max_steps=steps,
        save_steps=LOOKS,
        save_total_limit=1,
        num_generations=ANSWERS,
        per_device_train_batch_size=QUESTIONS * ANSWERS,
        max_completion_length=grpo.LONGEST_ANSWER,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        seed=seed,
    )
    trainer = GRPOTrainer(
        model,
        reward,
        args=args,
        train_dataset=grpo.asked_sums(tokenizer, trained_on(seed), told=told),
        processing_class=tokenizer,
        callbacks=[trainers.watch(grpo.held_look(tokenizer, held(), told=told), every=LOOKS)],
    )
    trainers.quiet(trainer).train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    return {"kind": kind, "seed": seed, "points": trainers.curve(trainer)}


def main() -> None:
    """Trains what the stored file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [f"{kind}-{seed}" for kind, seed in ORDER]
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="RUN", help=", ".join(names))
    only, stored = parser.parse_args().only, StoredRuns("grpo_08", settings())
    for kind, seed in ORDER:
        if f"{kind}-{seed}" not in only or any((one["kind"], one["seed"]) == (kind, seed) for one in stored.read()):
            continue
        folder = stored.checkpoints(kind, seed)
        found = run(kind, seed, folder)
        stored.add(found)
        shutil.rmtree(folder)
        print(kind, seed, found["points"][-1], flush=True)


if __name__ == "__main__":
    main()
