"""How well text in pictures is read, where that breaks, and what is answered from it: all figures with their counts.

python -m benchmarks.ocr [--documents 10] [--pages 6] [--model smollm2-135m] [--provider NAME] [--sees]

The documents are made from seeds that no test or notebook uses. With --sees the model is one that is shown the
pictures, and answers end to end.
"""

from __future__ import annotations

import argparse

from benchmarks.report import report
from helpers import machine
from helpers.chat import open_chat
from helpers.intervals import Mean, Rate, Spread
from helpers.vision import document_qa, documents, ocr
from helpers.vision.ocr import read_text

FIRST_SEED = 1000


def transcribed(kind: str, made: list[documents.DrawnPage]) -> dict[str, Spread]:
    """The error rate on clean pages with the interval of its mean, where there is a text; the share of cells right."""
    pages = [read_text(document.image) for document in made]
    figures = {}
    if made[0].text:
        print(f"{kind}: {len(made)} pages with {sum(len(document.text) for document in made)} characters")
        rates = [ocr.character_error_rate(p.text, d.text) for p, d in zip(pages, made, strict=True)]
        mean = Mean.of([100 * rate for rate in rates])
        figures[f"error_percent, {kind}"] = Spread(mean.value, mean.low, mean.high, mean.items)
    if made[0].cells:
        cells = [ocr.cell_accuracy(document_qa.cells(p, d), d.cells) for p, d in zip(pages, made, strict=True)]
        right = Rate(sum(rate.successes for rate in cells), sum(rate.trials for rate in cells))
        figures[f"cell_accuracy, {kind}"] = as_spread(right)
    return figures


def broken(pages: int) -> dict[str, Spread]:
    """The median error rate at each level of each harm, from the best page to the worst."""
    figures = {}
    for harm in ocr.HARMS:
        for level, part in ocr.under(harm, pages).groupby("level", sort=False):
            figures[f"error_percent, {harm} {level:g}"] = Spread.of([100 * rate for rate in part["error_rate"]])
    return figures


def answered(asked: argparse.Namespace, made: list[documents.DrawnPage]) -> dict[str, Spread]:
    """The share of questions answered on each road, over all and by kind; prints it by form and wording too."""
    with open_chat(asked.model, provider=asked.provider) as chat:
        by_model = document_qa.by_model(chat, conversation=asked.model != "smollm2-135m")
        roads: dict[str, document_qa.Road] = {"rules": document_qa.answer_by_rules}
        if asked.sees:
            roads |= {"end to end": document_qa.end_to_end(chat)}
        else:
            by_rules = document_qa.answer_by_rules
            roads |= {"pipeline": by_model, "rules, else pipeline": lambda *page: by_rules(*page) or by_model(*page)}
        rows = document_qa.scored(roads, made)
    for group, part in rows.groupby(["kind", "form", "wording", "road"], sort=False):
        print(f"{', '.join(group)}: {Rate.of(part['right'])}")
    figures = {
        f"answered, {road}": as_spread(Rate.of(part["right"])) for road, part in rows.groupby("road", sort=False)
    }
    for (kind, road), part in rows.groupby(["kind", "road"], sort=False):
        figures[f"answered, {kind}, {road}"] = as_spread(Rate.of(part["right"]))
    return figures


def as_spread(rate: Rate) -> Spread:
    """A share with its 95 % interval, in the form that a report takes."""
    return Spread(rate.share, *rate.interval, rate.trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10, help="of each kind")
    parser.add_argument("--pages", type=int, default=6, help="at each level of a harm")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--provider")
    parser.add_argument("--sees", action="store_true", help="the model is shown the pictures")
    asked = parser.parse_args()
    print(f"{machine.describe()}\n")
    made = documents.collection(asked.documents, FIRST_SEED)
    texts = [documents.text_page(seed) for seed in range(FIRST_SEED, FIRST_SEED + asked.documents)]
    figures = transcribed("lines", texts)
    for kind in documents.MAKERS:
        figures |= transcribed(kind, [document for document in made if document.kind == kind])
    report("ocr", **figures, **broken(asked.pages), **answered(asked, made))


if __name__ == "__main__":
    main()
