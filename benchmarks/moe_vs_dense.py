"""Held-out loss of a mixture of experts ÷ that of its dense twins, after the same training on the same tokens.

python -m benchmarks.moe_vs_dense [--steps 100] [--seeds 2]

The stored runs of data/moe_05.json have 1,000 steps; as many here repeat them. Below 1, the mixture is better.
"""

from __future__ import annotations

import argparse

from transformers import AutoTokenizer

from benchmarks.report import report
from helpers.experts import mixture
from helpers.intervals import Spread
from training import moe_05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(moe_05.SHIPPED)
    ids, held = (mixture.encode_kinds(tokenizer, side) for side in mixture.texts())
    names = ("mixture", *moe_05.TWINS)
    runs = []
    for seed in range(asked.seeds):
        for name in names:
            runs.append(moe_05.run(name, seed, ids, held, steps=asked.steps)[1])
            print(f"{name}, seed {seed}: {runs[-1]['points'][-1]['mean']:.4f} nats a token", flush=True)
    figures = {f"loss_to_{twin}": mixture.ratios(runs, "mixture", twin) for twin in moe_05.TWINS}
    report("moe_vs_dense", **{name.replace(", ", "_").replace(" ", "_"): Spread.of(of) for name, of in figures.items()})


if __name__ == "__main__":
    main()
