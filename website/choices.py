"""What SmolLM2-135M would write next, stored for the page to try: `python -m website.choices`.

It makes data/next_tokens.json. For each text and each continuation by its likeliest tokens, three tokens deep: the
candidates with their logits, and the logarithm of the sum over the whole vocabulary at each temperature, so that a
probability is exact at each of them.
"""

from __future__ import annotations

import json
from typing import Any

from helpers import catalog
from helpers.data import FOLDER
from helpers.models import sources

MODEL = "smollm2-135m"
TEXTS = ("The capital of Sweden is", "Once upon a time, there was a", "The lamp in my room is", "Two and two make")
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
CANDIDATES, FOLLOWED, DEPTH = 8, 4, 3
STORED = FOLDER / "next_tokens.json"


def node(model: Any, tokenizer: Any, ids: list[int], depth: int) -> dict[str, Any]:
    """What comes after some tokens, and after the likeliest of those, `depth` tokens further."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1].double()
    best = logits.topk(CANDIDATES).indices.tolist()
    sums = [round(float(torch.logsumexp(logits / temperature, 0)), 3) for temperature in TEMPERATURES]
    made: dict[str, Any] = {"of": [[tokenizer.decode([i]), round(float(logits[i]), 3)] for i in best], "sums": sums}
    if depth:
        made["then"] = [node(model, tokenizer, [*ids, i], depth - 1) for i in best[:FOLLOWED]]
    return made


def main() -> None:
    """Computes and writes all of it: two minutes of one core."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = sources.folder(catalog.card(MODEL))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    trees = [{"text": text, **node(model, tokenizer, tokenizer(text).input_ids, DEPTH)} for text in TEXTS]
    lines = ",\n".join(json.dumps(tree, ensure_ascii=False, separators=(",", ":")) for tree in trees)
    head = json.dumps({"model": MODEL, "temperatures": TEMPERATURES})[:-1]
    STORED.write_text(f'{head}, "trees": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
