"""Distillation: a small student learns what a larger teacher expects, word by word.

A text says which token came next. A teacher says how likely each token was, which is more to learn from a step:

    loss = (1 − share) · surprise at the text  +  share · T² · KL(teacher ‖ student), both softened by T

after Hinton et al. 2015, Distilling the Knowledge in a Neural Network, section 2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput
from helpers.intervals import Mean
from helpers.making.training import Batch, BatchAt, held_out_loss, next_token_loss, pace, tiny_phi, train

if TYPE_CHECKING:
    import torch


def taught(teacher: Any, batch_at: BatchAt, count: int) -> list[Batch]:
    """The first `count` batches, each with the teacher's logits: the teacher is run once, for all students."""
    import torch

    if count < 1:
        raise InvalidInput("There are no batches to learn from.", "Ask for one or more.")
    teacher.eval()
    pool = []
    for step in range(count):
        ids = batch_at(step)["input_ids"]
        with torch.inference_mode():
            logits = teacher(input_ids=ids.to(teacher.device), use_cache=False).logits
        pool.append({"input_ids": ids, "teacher": logits.to("cpu", torch.float16).clone()})
    return pool


def divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """KL(teacher ‖ student) a token, in nats, of logits softened by the temperature; times its square.

    The square keeps the gradient as long as it was: softening divides it by T twice.
    """
    import torch

    if temperature <= 0:
        raise InvalidInput(f"A temperature of {temperature} softens nothing.", "Choose one above 0.")
    wanted = torch.log_softmax(teacher.float() / temperature, dim=-1).flatten(0, -2)
    given = torch.log_softmax(student.float() / temperature, dim=-1).flatten(0, -2)
    return temperature**2 * torch.nn.functional.kl_div(given, wanted, reduction="batchmean", log_target=True)


def distillation_loss(share: float = 0.5, temperature: float = 1.0) -> Callable[[Any, Batch], torch.Tensor]:
    """The loss to train a student with: `share` of it from the teacher, the rest from the text. 0 is the text alone."""
    if not 0 <= share <= 1:
        raise InvalidInput(f"The teacher's share is {share}.", "Choose one from 0 to 1.")

    def loss(student: Any, batch: Batch) -> torch.Tensor:
        if not share:
            return next_token_loss(student, {"input_ids": batch["input_ids"]})
        out = student(input_ids=batch["input_ids"], labels=batch["input_ids"], use_cache=False)
        return (1 - share) * out.loss + share * divergence(batch["teacher"], out.logits, temperature)

    return loss


@dataclass(frozen=True, slots=True)
class Lesson:
    """What every student of a comparison shares: the taught batches, steps, size, and the text it is judged on."""

    pool: Sequence[Batch]
    steps: int
    size: str
    vocabulary: int
    judged_on: torch.Tensor


def student(lesson: Lesson, *, share: float, seed: int) -> dict[str, Any]:
    """One student, trained from its own random weights on the pool in its own order: its loss on held-out text."""
    order = random.Random(seed)
    places = [order.randrange(len(lesson.pool)) for _ in range(lesson.steps)]
    model = tiny_phi(lesson.size, lesson.vocabulary, seed=seed)
    loss = distillation_loss(share)
    label = "with teacher" if share else "text alone"
    train(
        model, lambda step: lesson.pool[places[step]], steps=lesson.steps, loss=loss, label=label, **pace(lesson.size)
    )
    return {"taught by": label, "seed": seed, "loss": held_out_loss(model, lesson.judged_on)}


def gain(rows: Sequence[dict[str, Any]]) -> Mean:
    """What the teacher gained, in nats a token: loss on text alone − loss with teacher, seed by seed."""
    losses = {(row["taught by"], row["seed"]): row["loss"] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    if len(seeds) < 2:
        raise InvalidInput("One seed shows no spread.", "Train students with two seeds or more.")
    kinds = ("text alone", "with teacher")
    return Mean.of_differences(*([losses[kind, seed] for seed in seeds] for kind in kinds))
