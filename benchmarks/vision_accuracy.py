"""How much of easy-VQA's official test the miniature answers rightly, by kind of question, and what it knows blind.

python -m benchmarks.vision_accuracy [--limit N]

Without --limit all 9,673 questions are asked, about 20 minutes on two cores. Answers are free text.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable

import torch

from helpers import catalog, machine
from helpers.models import sources
from helpers.vision import easyvqa, seeing
from helpers.vision.easyvqa import Question

#: Questions on several test images, for each number of images.
GROUPS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="ask only the questions on the first N images")
    parser.add_argument("--model", default="mini-vision")
    asked = parser.parse_args()
    torch.set_num_threads(machine.threads())
    model, tokenizer = seeing.load_miniature(sources.folder(catalog.card(asked.model)))
    questions = [q for q in easyvqa.questions("test") if asked.limit is None or q.images[0] < asked.limit]
    figures = {}

    def tell(title: str, given: Iterable[tuple[Question, str]]) -> None:
        table = seeing.scores_by_kind(given)
        figures[title] = {row.kind: [round(row.share, 4), row.questions] for row in table.itertuples()}
        print(f"\n{title}\n{table.round(4).to_string(index=False)}", flush=True)

    some = questions[:1000]
    tell("one image", seeing.image_answers(model, tokenizer, "test", questions))
    tell("the image of another question", seeing.image_answers(model, tokenizer, "test", some, shown="shuffled"))
    tell("no image", seeing.image_answers(model, tokenizer, "test", some, shown="none"))
    tell("no model: the commonest answer to the same words", seeing.habit(questions))
    count = GROUPS if asked.limit is None else min(GROUPS, 4 * asked.limit)
    for size in (2, 3, 4):
        group = easyvqa.group_questions("test", count, sizes=(size,))
        tell(f"{size} images", seeing.image_answers(model, tokenizer, "test", group))
    print(json.dumps({"benchmark": "vision_accuracy", "figures": figures, "machine": str(machine.describe())}))


if __name__ == "__main__":
    main()
