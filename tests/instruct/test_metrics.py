"""ROUGE and chrF agree with the packages that define them, and the interval of a mean behaves like one."""

from __future__ import annotations

import pytest

from helpers.errors import InvalidInput
from helpers.instruct.tasks import chrf, rouge_1, rouge_l

# text, reference, and F1 in points as the package rouge-score 0.1.2 computes them without its stemmer
ROUGE = [
    ("The cat sat on the mat.", "the cat sat on the mat", 100, 100),
    ("the cat sat on a mat", "the cat was on the mat", 66.6667, 66.6667),
    ("mat the on sat cat the", "the cat sat on the mat", 100, 50),
    ("the the the the", "the cat", 33.3333, 33.3333),
    ("a 20-year old café", "20 year old coffee", 66.6667, 66.6667),
    ("", "the cat", 0, 0),
    ("dogs bark", "the cat", 0, 0),
]


@pytest.mark.parametrize(("text", "reference", "one", "longest"), ROUGE)
def test_rouge_equals_the_usual_package(text: str, reference: str, one: float, longest: float) -> None:
    assert rouge_1(text, [reference]) == pytest.approx(one, abs=1e-3)
    assert rouge_l(text, [reference]) == pytest.approx(longest, abs=1e-3)


def test_rouge_takes_the_best_reference() -> None:
    assert rouge_1("the cat", ["a dog", "the cat"]) == 100
    with pytest.raises(InvalidInput, match="no reference"):
        rouge_1("the cat", [])


def test_chrf_is_sacrebleus_and_reads_any_script() -> None:
    from sacrebleu import sentence_chrf

    assert chrf("Katten sover.", ["Katten sover."]) == pytest.approx(100)
    text, reference = "猫在睡觉。", "猫在沙发上睡觉。"
    assert 0 < chrf(text, [reference]) == sentence_chrf(text, [reference]).score
    assert chrf("狗", ["猫"]) == 0
