"""Trains longer than a notebook may, and stores what it saw: `python -m training.curves_02`.

It writes data/curves_02.json: the loss of runs of several sizes and lengths (`scaling`), one long run with what it
wrote on the way (`long`), and students taught by the model of that long run (`distillation`). Tens of minutes on one
core; the parts that are done are kept, and a second call goes on where the first stopped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers import machine
from helpers.making import bpe, corpus, distillation, export, training
from helpers.making.training import LossRow
from helpers.models.files import home, written_whole

STORED = Path(__file__).resolve().parent.parent / "data" / "curves_02.json"
VOCABULARY = 2048
LONG_STEPS = 1200
PROMPTS = ("The", "def", "12 + 30 =")
GRID = {"0.2M": (40, 120, 360, 1080), "0.9M": (40, 120, 360, 1080), "2M": (40, 120, 360)}
STUDENT_STEPS, STUDENT_SEEDS, POOL = 300, 3, 100
#: What every stored part must have been made with. The grid may grow: each of its points tells its own size and length.
SETTINGS = (VOCABULARY, LONG_STEPS, PROMPTS, STUDENT_STEPS, STUDENT_SEEDS, POOL)


def prepared() -> tuple[Any, Any, Any]:
    """(tokenizer, training ids, held-out ids), made as the notebook makes them."""
    documents = corpus.clean(corpus.collect())
    copies = corpus.duplicates(documents)
    kept, held = corpus.split(d for n, d in enumerate(documents) if n not in copies)
    tokenizer = bpe.train_tokenizer([d.text for d in kept], VOCABULARY)
    return tokenizer, *(training.encode(tokenizer, [d.text for d in part]) for part in (kept, held))


def written(model: Any, tokenizer: Any, prompt: str) -> str:
    """What the model writes after a prompt, greedily but without repeating itself."""
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=24, do_sample=False, repetition_penalty=1.3)
    return str(tokenizer.decode(out[0]))


def long_run(tokenizer: Any, ids: Any, held: Any, folder: Path) -> dict[str, Any]:
    """The 2M model at length: its loss on held-out text and its samples on the way."""
    model = training.tiny_phi("2M", VOCABULARY)
    seen: list[dict[str, Any]] = []

    def look(rows: list[LossRow]) -> None:
        if len(rows) % 200 == 0 or len(rows) in (25, 50, 100):
            loss = training.held_out_loss(model, held)
            texts = [written(model, tokenizer, prompt) for prompt in PROMPTS]
            model.train()
            mean = sum(row["loss"] for row in rows[-25:]) / len(rows[-25:])
            seen.append({"tokens": int(rows[-1]["tokens"]), "loss": round(mean, 4)})
            seen[-1] |= {"held_out": round(loss, 4), "written": texts}

    training.train(
        model,
        training.batches(ids, rows=8, length=128),
        steps=LONG_STEPS,
        **training.pace("2M"),
        on_step=look,
    )
    export.save_model(model, tokenizer, folder)
    return {"size": "2M", "steps": LONG_STEPS, "prompts": PROMPTS, "points": seen}


def students(ids: Any, held: Any, folder: Path) -> dict[str, Any]:
    """Students of the long run's model, with and without its help, over several seeds."""
    from transformers import AutoModelForCausalLM

    teacher = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    pool = distillation.taught(teacher, training.batches(ids, rows=8, length=128, seed=1), POOL)
    lesson = distillation.Lesson(pool, STUDENT_STEPS, "0.2M", VOCABULARY, held)
    rows = [distillation.student(lesson, share=s, seed=n) for n in range(STUDENT_SEEDS) for s in (0.0, 0.5)]
    return {
        "teacher_loss": training.held_out_loss(teacher, held),
        "steps": STUDENT_STEPS,
        "batches": POOL,
        "students": rows,
    }


def run_of(size: str, steps: int, ids: Any, held: Any) -> dict[str, Any]:
    """One point of the scaling grid: a whole run with its own schedule."""
    model = training.tiny_phi(size, VOCABULARY)
    batches = training.batches(ids, rows=8, length=128)
    rows = training.train(model, batches, steps=steps, **training.pace(size))
    loss = round(training.held_out_loss(model, held), 4)
    return {"size": size, "parameters": model.num_parameters(), "tokens": int(rows[-1]["tokens"]), "loss": loss}


def main() -> None:
    """Trains what the stored file lacks."""
    stored: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    folder = home() / "curves_02"
    tokenizer, ids, held = prepared()
    made_with = {"settings": training.fingerprint(*SETTINGS), "data": training.fingerprint(ids, held)}
    if stored:
        there = {name: stored[name] for name in made_with if name in stored}
        training.require_same(there, made_with, f"What stands in {STORED.name}", f"Move {STORED} away to make it anew.")
    stored |= made_with

    def store() -> None:
        text = json.dumps({"machine": str(machine.describe()), **stored}, indent=1, ensure_ascii=False)
        with written_whole(STORED) as part:
            part.write_text(text + "\n", encoding="utf-8")

    if "long" not in stored or not folder.exists():
        stored["long"] = long_run(tokenizer, ids, held, folder)
        store()
    if "distillation" not in stored:
        stored["distillation"] = students(ids, held, folder)
        store()
    done = {(row["size"], row["tokens"]) for row in stored.setdefault("scaling", [])}
    for steps, size in sorted((steps, size) for size, lengths in GRID.items() for steps in lengths):
        if (size, steps * 8 * 128) not in done:
            stored["scaling"].append(run_of(size, steps, ids, held))
            store()


if __name__ == "__main__":
    main()
