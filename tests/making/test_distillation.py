"""Distillation: the divergence is one, a student learns from a teacher, and the comparison is fair."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.errors import InvalidInput
from helpers.making import distillation, training

VOCABULARY = 64


@pytest.fixture(scope="module")
def teacher() -> Any:
    """Random weights made sharp: sure of itself, and different from every student."""
    model = training.tiny_phi("0.2M", VOCABULARY, seed=9)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model.eval()


@pytest.fixture(scope="module")
def pool(teacher: Any) -> list[training.Batch]:
    ids = torch.randint(VOCABULARY, (2000,), generator=torch.Generator().manual_seed(0))
    return distillation.taught(teacher, training.batches(ids, rows=4, length=16), 4)


def test_a_distribution_does_not_diverge_from_itself() -> None:
    logits = torch.randn(3, 5, 7)
    assert float(distillation.divergence(logits, logits)) == pytest.approx(0, abs=1e-6)


def test_the_divergence_is_the_definition() -> None:
    teacher, student = torch.tensor([[0.2, 1.0, -1.0]]), torch.tensor([[0.0, 0.5, 2.0]])
    p, q = teacher.softmax(-1), student.softmax(-1)
    assert float(distillation.divergence(teacher, student)) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)


def test_softening_keeps_the_gradient_of_the_same_order() -> None:
    sizes = []
    for temperature in (1.0, 4.0):
        student = torch.zeros(1, 5, requires_grad=True)
        distillation.divergence(torch.tensor([[0.1, 0.2, 0.0, -0.1, 0.3]]), student, temperature).backward()
        sizes.append(float(student.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_a_student_comes_closer_to_its_teacher(pool: list[training.Batch]) -> None:
    model = training.tiny_phi("0.2M", VOCABULARY)
    rows = training.train(
        model, lambda step: pool[step % 4], steps=25, peak=1e-2, loss=distillation.distillation_loss(1.0)
    )
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]


def test_without_a_share_the_teacher_is_not_heard(pool: list[training.Batch]) -> None:
    model = training.tiny_phi("0.2M", VOCABULARY)
    alone = distillation.distillation_loss(0.0)(model, pool[0])
    assert torch.equal(alone, training.next_token_loss(model, {"input_ids": pool[0]["input_ids"]}))


def test_both_students_of_a_seed_start_alike_and_end_apart(pool: list[training.Batch]) -> None:
    lesson = distillation.Lesson(pool, 3, "0.2M", VOCABULARY, torch.arange(300) % VOCABULARY)
    rows = [distillation.student(lesson, share=share, seed=1) for share in (0.0, 0.5, 0.0)]
    assert rows[0] == rows[2]
    assert rows[0]["loss"] != rows[1]["loss"]


def test_the_gain_is_told_with_its_interval() -> None:
    rows = [
        {"taught by": who, "seed": seed, "loss": loss}
        for seed, pair in enumerate([(3.0, 2.8), (3.2, 2.8)])
        for who, loss in zip(("text alone", "with teacher"), pair, strict=True)
    ]
    gain = distillation.gain(rows)
    # Two seeds that differ by 0.2: Student's t of one degree of freedom is 12.7.
    assert (gain.value, gain.high - gain.value, gain.items) == pytest.approx((0.3, 12.706 * 0.1, 2), rel=1e-4)


def test_bad_input_ends_in_a_sentence(teacher: Any) -> None:
    with pytest.raises(InvalidInput, match="share"):
        distillation.distillation_loss(1.5)
    with pytest.raises(InvalidInput, match="softens nothing"):
        distillation.divergence(torch.zeros(1, 2), torch.zeros(1, 2), 0)
    with pytest.raises(InvalidInput, match="no batches"):
        distillation.taught(teacher, lambda step: {}, 0)
    with pytest.raises(InvalidInput, match="no spread"):
        distillation.gain([{"taught by": "text alone", "seed": 0, "loss": 1.0}])
