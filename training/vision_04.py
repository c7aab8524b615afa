"""Trains the miniature vision-language model: `python -m training.vision_04`.

First the eyes alone: the vision transformer learns to name shape and colour, with a linear layer that is thrown away.
Then the whole: eyes, projector and a LoRA adapter in the language model learn to answer in words, on packed questions
about one image and about two to four. Seeded; a run that was stopped goes on where it was; a GPU is used where there
is one. It writes data/mini_vision/model.safetensors and the curve in data/vision_04.json.
"""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn import functional
from tqdm import tqdm

from helpers import catalog, machine
from helpers.making import training
from helpers.models import miniature, sources
from helpers.models.files import home
from helpers.vision import easyvqa, seeing
from helpers.vision.easyvqa import Question
from training.pictures import moved, placed

CURVE = Path(__file__).resolve().parent.parent / "data" / "vision_04.json"
HELD_OUT = 200  # training images that only the curve sees; the official test images are nobody's until the end
SAVED_EVERY, SCORED_EVERY = 25, 100
EYES = {"steps": 1600, "images": 48, "peak": 1e-3}
QUESTIONS, PEAK, EYES_PEAK = 5, 2e-3, 2e-4


@dataclass(frozen=True)
class Stage:
    """A part of the whole's training: what a batch holds, and how fast it is learned.

    The learning rate starts at `share` of the peak and falls along a cosine that would end after `over` steps.
    """

    steps: int
    over: int
    share: float
    images: int
    groups: int
    sizes: tuple[int, ...]
    balanced: bool


#: First what things are called. Then to compare that with a word: five in six yes/no questions name what is not there,
#: so a habit answers them, and is broken by asking for both alike. Last, to tell several images apart.
STAGES = (
    Stage(275, over=600, share=1.0, images=8, groups=3, sizes=(2, 2, 2, 3, 4), balanced=False),
    Stage(150, over=260, share=0.5, images=8, groups=3, sizes=(2, 2, 2, 3, 4), balanced=True),
    Stage(175, over=175, share=0.5, images=4, groups=9, sizes=(2, 2, 2, 2, 3, 4), balanced=True),
)
STEPS = sum(stage.steps for stage in STAGES)


def eyes(model: Any, checkpoint: Path, device: str) -> None:
    """Trains the vision transformer to name the shape and the colour of each image."""
    known = {n: label for n, label in easyvqa.labels("train").items() if n >= HELD_OUT}
    numbers = sorted(known)
    pictures = placed(seeing.pixels("train", numbers))
    shape = torch.tensor([easyvqa.SHAPES.index(known[n][0]) for n in numbers])
    colour = torch.tensor([easyvqa.COLOURS.index(known[n][1]) for n in numbers])
    torch.manual_seed(0)
    heads = torch.nn.Linear(miniature.WIDTH, len(easyvqa.SHAPES) + len(easyvqa.COLOURS))
    learner = torch.nn.ModuleDict({"vision": model.model.vision_model, "heads": heads}).to(device)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=EYES["peak"], weight_decay=0.05)
    recipe = EYES | {"data": training.fingerprint(pictures, shape, colour)}
    rows = training.restore(checkpoint, learner, optimizer, recipe)
    for step in tqdm(range(len(rows), int(EYES["steps"])), desc="eyes", initial=len(rows), total=int(EYES["steps"])):
        chance = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(numbers), (int(EYES["images"]),), generator=chance)
        with torch.autocast(device, dtype=torch.bfloat16):
            scores = learner.heads(learner.vision(moved(pictures, chosen, chance).to(device)).last_hidden_state.mean(1))
        scores = scores.float()
        loss = functional.cross_entropy(scores[:, : len(easyvqa.SHAPES)], shape[chosen].to(device))
        loss = loss + functional.cross_entropy(scores[:, len(easyvqa.SHAPES) :], colour[chosen].to(device))
        rows.append({"step": step, "loss": update(learner, optimizer, loss, eyes_pace(step) * EYES["peak"])})
        if (step + 1) % 200 == 0:
            training.save(checkpoint, learner, optimizer, rows, recipe)
            tqdm.write(f"eyes {step + 1}: {sum(r['loss'] for r in rows[-100:]) / 100:.4f}")


def whole(model: Any, tokenizer: Any, checkpoint: Path, device: str) -> list[dict[str, Any]]:
    """Trains everything that is trainable to answer in words; returns the curve."""
    # The language model's weights are 16-bit numbers already, and stay as they are: nothing is lost.
    model.model.text_model.to(torch.bfloat16)
    model.lm_head.to(torch.bfloat16)
    adapted = miniature.with_decoder_adapter(model).to(device)
    inner = adapted.base_model.model
    vision = list(inner.model.vision_model.parameters())
    rest = [p for n, p in adapted.named_parameters() if p.requires_grad and "vision_model" not in n]
    groups = [{"params": vision, "share": EYES_PEAK}, {"params": rest, "share": PEAK}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    data = Batches(tokenizer)
    recipe = {
        "steps": STEPS,
        "settings": training.fingerprint(STAGES, QUESTIONS, PEAK, EYES_PEAK),
        "data": training.fingerprint(data.pictures, sorted(data.asked.items()), sorted(data.known.items())),
        "eyes": training.fingerprint(*vision),  # as they were when this began
    }
    rows = training.restore(checkpoint, adapted, optimizer, recipe)
    for step in tqdm(range(len(rows), STEPS), desc="whole", initial=len(rows), total=STEPS):
        started = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = data.loss(inner, step, device)
        rate = pace(*stage_at(step))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        rows.append({"step": step, "loss": update(adapted, optimizer, loss, None)})
        rows[-1]["seconds"] = time.perf_counter() - started
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == STEPS:
            mean = sum(row["loss"] for row in rows[-25:]) / len(rows[-25:])
            if (step + 1) % SCORED_EVERY == 0 or step + 1 == STEPS:
                rows[-1] |= held_out(inner, tokenizer)
            training.save(checkpoint, adapted, optimizer, rows, recipe)
            write(adapted, rows)
            tqdm.write(f"whole {step + 1}: {mean:.4f} {rows[-1]}")
    return rows


class Batches:
    """Packed questions: each row is one image, or a few, and several questions that do not see each other."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.asked: dict[int, list[Question]] = {}
        for question in easyvqa.questions("train"):
            if question.images[0] >= HELD_OUT:
                self.asked.setdefault(question.images[0], []).append(question)
        self.numbers = sorted(self.asked)
        self.pictures = placed(seeing.pixels("train", self.numbers))
        self.place = {number: n for n, number in enumerate(self.numbers)}
        self.known = {n: label for n, label in easyvqa.labels("train").items() if n >= HELD_OUT}

    def loss(self, model: Any, step: int, device: str) -> torch.Tensor:
        """The mean loss of the answers' tokens of the batch that belongs to this step."""
        draw = random.Random(step)
        chance = torch.Generator().manual_seed(10_000_000 + step)
        stage, _ = stage_at(step)
        single = [self._single(draw, stage) for _ in range(stage.images)]
        groups = [self._group(draw, stage) for _ in range(stage.groups)]
        # Apart, since a row is as long as the longest beside it.
        parts = [self._losses(model, sets, chance, device) for sets in (single, groups)]
        return torch.cat(parts).mean()

    def _losses(self, model: Any, sets: list[list[Question]], chance: torch.Generator, device: str) -> torch.Tensor:
        ids, target, position, mask = (part.to(device) for part in packed(self.tokenizer, sets))
        shown = torch.tensor([self.place[n] for group in sets for n in group[0].images])
        seen = seeing.image_tokens(model, moved(self.pictures, shown, chance).to(device))
        inputs = seeing.embeddings(model, ids, seen)
        hidden = model.model.text_model(
            inputs_embeds=inputs, attention_mask=mask.to(inputs.dtype), position_ids=position, use_cache=False
        ).last_hidden_state
        wanted = target >= 0
        return functional.cross_entropy(model.lm_head(hidden[wanted]).float(), target[wanted], reduction="none")

    def _single(self, draw: random.Random, stage: Stage) -> list[Question]:
        asked = self.asked[draw.choice(self.numbers)]
        named = [q for q in asked if q.kind != "yes/no"]
        chosen = draw.sample(named, min(2, len(named)))
        if not stage.balanced:
            rest = [q for q in asked if q not in chosen]
            return chosen + draw.sample(rest, min(QUESTIONS - len(chosen), len(rest)))
        there = [q for q in asked if q.kind == "yes/no" and easyvqa.is_there(q)][:3]
        absent = [q for q in asked if q.kind == "yes/no" and not easyvqa.is_there(q)]
        return chosen + there + draw.sample(absent, min(max(1, len(there)), len(absent)))

    def _group(self, draw: random.Random, stage: Stage) -> list[Question]:
        return easyvqa.about(self.known, draw, size=draw.choice(stage.sizes), count=QUESTIONS)


def packed(tokenizer: Any, sets: list[list[Question]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, targets, positions, mask): one row for each set of questions on the same images; no target is -1."""
    rows = [_row(tokenizer, questions) for questions in sets]
    length = max(len(row) for row in rows)
    table = torch.zeros(4, len(rows), length, dtype=torch.long)  # id, target, position, segment
    table[1], table[3] = -1, -1
    for n, row in enumerate(rows):
        table[:, n, : len(row)] = torch.tensor(row).T
    ids, target, position, segment = table
    # A token sees what came before it in its own question, and the images, which are segment 0.
    same = segment[:, :, None] == segment[:, None, :]
    shared = segment[:, None, :] == 0
    order = torch.ones(length, length, dtype=torch.bool).tril()
    allowed = order & (same | shared)
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    return ids, target, position, mask[:, None]


def _row(tokenizer: Any, questions: list[Question]) -> list[tuple[int, int, int, int]]:
    """One row, a token at a time: its id, the id to write after it or -1, its position and its segment."""
    start = seeing.prompt_ids(tokenizer, len(questions[0].images))
    row = [(token, -1, n, 0) for n, token in enumerate(start)]
    for segment, question in enumerate(questions, 1):
        asked = seeing.question_ids(tokenizer, question.text)
        answer = seeing.answer_ids(tokenizer, question.answer)
        ids = asked + answer[:-1]
        target = [-1] * (len(asked) - 1) + answer
        row += [(token, t, len(start) + n, segment) for n, (token, t) in enumerate(zip(ids, target, strict=True))]
    return row


def eyes_pace(step: int) -> float:
    """The share of the peak at which the eyes learn: up in the first tenth of their steps, then down."""
    warm = EYES["steps"] / 10
    return (step + 1) / warm if step < warm else descent((step - warm) / (EYES["steps"] - warm))


def stage_at(step: int) -> tuple[Stage, int]:
    """The stage that a step belongs to, and the number of the step in it."""
    for stage in STAGES:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    raise IndexError("the training has no such step")


def pace(stage: Stage, step: int) -> float:
    """The share of the peak that the learning rate has at a step of a stage; the first stage warms up in 60 steps."""
    warm = stage.over // 10 if stage is STAGES[0] else 0
    return (step + 1) / warm if step < warm else stage.share * descent((step - warm) / (stage.over - warm))


def descent(way: float) -> float:
    """From 1 to 0.01 along a cosine, as `way` goes from 0 to 1."""
    return 0.01 + 0.99 * (1 + math.cos(math.pi * way)) / 2


def update(model: Any, optimizer: Any, loss: torch.Tensor, rate: float | None) -> float:
    """One step of the optimizer; returns the loss."""
    if not torch.isfinite(loss):
        raise SystemExit("The loss is no number any more: lower the learning rate and start again.")
    if rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    return float(loss.detach())


def held_out(model: Any, tokenizer: Any) -> dict[str, float]:
    """The share of right answers on held-out training images: about one image, and about two."""
    asked = [q for q in easyvqa.questions("train") if q.images[0] < HELD_OUT][:600]
    known = {n: label for n, label in easyvqa.labels("train").items() if n < HELD_OUT}
    pairs = [q for seed in range(40) for q in easyvqa.about(known, random.Random(seed), size=2, count=4)]
    model.eval()
    scores = {}
    for name, questions in (("one", asked), ("pairs", pairs)):
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            given = list(seeing.image_answers(model, tokenizer, "train", questions))
        scores[name] = sum(q.answer == text for q, text in given) / len(given)
    model.train()
    return scores


def write(adapted: Any, rows: list[dict[str, Any]]) -> None:
    """What is shipped, in 16 bits, and the curve."""
    miniature.SHIPPED.parent.mkdir(parents=True, exist_ok=True)
    state = {name: p.to(torch.float16).contiguous() for name, p in miniature.trained(adapted).items()}
    save_file(state, miniature.SHIPPED)
    points = [{name: round(value, 4) for name, value in row.items()} for row in rows]
    CURVE.write_text(json.dumps({"machine": str(machine.describe()), "steps": points}) + "\n", encoding="utf-8")


def main() -> None:
    """Both trainings, one after the other; each goes on from its checkpoint."""
    torch.set_num_threads(machine.threads())
    device = machine.device()
    folder = home() / "training" / "vision_04"
    folder.mkdir(parents=True, exist_ok=True)
    language = sources.folder(catalog.card("smollm2-135m"))
    tokenizer = miniature.miniature_processor(language).tokenizer
    model = miniature.untrained(language, tokenizer)
    eyes(model, folder / "eyes.pt", device)
    whole(model, tokenizer, folder / "whole.pt", device)


if __name__ == "__main__":
    main()
