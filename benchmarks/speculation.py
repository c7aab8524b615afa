"""The 1.5-billion rung with drafts from its text and from the 0.5-billion rung, on two texts, stored for notebook 07.

python -m benchmarks.speculation [--repeats 3] [--tokens 48]

Rates belong to the machine that the file names. Acceptance and the answers do not.
"""

from __future__ import annotations

import argparse

from benchmarks.report import keep
from helpers import machine
from helpers.data import FOLDER
from helpers.engines.speculation import NEW_CODE, TEXTS, speculate

STORED = FOLDER / "speculation_07.json"
MODEL, DRAFTER = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"
REWRITTEN = "code, written again"
#: Who drafts, and how many tokens at most.
ROADS = ((None, (0, 6)), (DRAFTER, (0, 3, 6)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    asked = parser.parse_args()
    texts, rows = {REWRITTEN: TEXTS[REWRITTEN], **NEW_CODE}, []
    options = {"model": MODEL, "new_tokens": asked.tokens, "repeats": asked.repeats, "reuse_prompt": True}
    made_with = {"model": MODEL, "drafter": DRAFTER, "threads": machine.threads(), "machine": str(machine.describe())}
    made_with |= {"new_tokens": asked.tokens}
    answers: dict[str, str] = {}
    for drafter, lengths in ROADS:
        for length in lengths if not answers else [length for length in lengths if length]:
            for row in speculate(texts, [length], drafter=drafter, **options):
                answer = row.pop("answer")
                row["same"] = answers.setdefault(row["text"], answer) == answer
                rows.append(row | {"tokens_per_second": round(row["tokens_per_second"], 2)})
            print(rows[-1], flush=True)
            keep(STORED, made_with | {"answers": answers, "rows": rows})


if __name__ == "__main__":
    main()
