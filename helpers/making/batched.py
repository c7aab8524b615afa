"""What a model that is being trained writes for many prompts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def batched_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    longest: int,
    temperature: float = 0.0,
    seed: int = 0,
    rows: int = 36,
) -> list[tuple[str, int]]:
    """The text and the number of tokens of each answer, its end counted; the model stays in the mode it was in.

    An answer of `longest` tokens without an end was cut off there. Without a temperature the likeliest token is taken
    each time; with one, tokens are drawn by the seed, and nobody else's random numbers are touched.
    """
    import torch

    drawn = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    training, found = model.training, []
    model.eval()
    for start in range(0, len(prompts), rows):
        part = list(prompts[start : start + rows])
        batch = tokenizer(part, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(seed + start)
            ids = model.generate(
                **batch.to(model.device),
                **drawn,
                logits_to_keep=torch.tensor([-1]),  # a place: of a slice torch multiplies each row by itself
                do_sample=bool(drawn),
                max_new_tokens=longest,
                pad_token_id=tokenizer.pad_token_id,
            )
        for row in ids[:, batch["input_ids"].shape[1] :].tolist():
            tokens = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            found.append((tokenizer.decode(row[:tokens], skip_special_tokens=True), tokens))
    model.train(training)
    return found
