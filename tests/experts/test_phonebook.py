"""Phone books and sums: what is asked, who is asked, how it is judged; and what the stored runs are made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers import anatomy
from helpers.data import stored
from helpers.errors import InvalidInput
from helpers.experts import phonebook
from helpers.experts.phonebook import RIVAL, RIVALS
from helpers.making import training


def test_a_book_has_every_name_once_and_the_held_ones_apart() -> None:
    book = phonebook.phone_book(500, held=100, seed=3)
    names = [tuple(row[:2].tolist()) for row in torch.cat([book.practised, book.held])]
    assert len(set(names)) == 600
    assert book.practised.shape == (500, 4)
    assert not torch.equal(book.practised, phonebook.phone_book(500, held=100, seed=4).practised)


def test_every_sum_is_right_and_none_is_held_out_that_was_practised() -> None:
    drill = phonebook.sums(300, held=50)
    rows = torch.cat([drill.practised, drill.held]).tolist()
    for a, b, c, d, low, middle, high in rows:
        assert 10 * a + b + 10 * c + d == low + 10 * middle + 100 * high
    assert len({tuple(row) for row in rows}) == 350


@pytest.mark.parametrize("make", [lambda: phonebook.phone_book(0), lambda: phonebook.phone_book(10_000)])
def test_a_book_that_cannot_be_is_refused(make) -> None:
    with pytest.raises(InvalidInput, match="names"):
        make()
    with pytest.raises(InvalidInput, match="sums"):
        phonebook.sums(9_500)


def test_rivals_have_the_sizes_that_their_names_say() -> None:
    counts = {name: anatomy.count(model) for name, model in phonebook.rivals().items()}
    small, eight, sixteen, large = (counts[name] for name in RIVALS)
    assert small.total == pytest.approx(eight.active, rel=0.04)
    assert small.total == pytest.approx(sixteen.active, rel=0.06)
    assert large.total == pytest.approx(eight.total, rel=0.03)
    assert sixteen.total > 1.5 * eight.total


def test_a_pass_reads_every_row_once_in_an_order_of_its_own() -> None:
    drill = phonebook.phone_book(700, held=10)
    batch_at = phonebook.drill_batches(drill, rows=256)
    one, two = (torch.cat([batch_at(step)["input_ids"] for step in range(3 * n, 3 * n + 3)]) for n in (0, 1))
    assert phonebook.steps_of(drill, 2, rows=256) == 6
    for read in (one, two):
        assert Counter(map(tuple, read.tolist())) == Counter(map(tuple, drill.practised.tolist()))
    assert not torch.equal(one, two)


def test_only_the_answer_is_trained_and_a_mixtures_balance_is_added() -> None:
    drill, loss = phonebook.phone_book(8, held=2), phonebook.recall_loss(2)
    batch = {"input_ids": drill.practised}
    for name in (phonebook.SMALL, phonebook.EIGHT):
        model = phonebook.rivals()[name].eval()
        logits = model(input_ids=batch["input_ids"]).logits[:, 1:-1].flatten(0, 1)
        plain = torch.nn.functional.cross_entropy(logits, batch["input_ids"][:, 2:].flatten())
        added = float(loss(model, batch).detach()) - float(plain.detach())
        assert added == pytest.approx(0, abs=1e-5) if name == phonebook.SMALL else 0.01 < added < 0.2


class Oracle(torch.nn.Module):
    """Answers rightly where the first token is even, and with its first part wrong elsewhere."""

    device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, **_: object) -> object:
        logits = torch.zeros(*input_ids.shape, 10)
        for row, ids in enumerate(input_ids.tolist()):
            logits[row, 0, 1 if ids[0] % 2 == 0 else 9] = 1.0  # after the question, 1 is right
            logits[row, 1, 2] = 1.0
        return type("Out", (), {"logits": logits})


def test_a_whole_answer_needs_every_part() -> None:
    rows = torch.tensor([[4, 1, 2], [5, 1, 2], [6, 1, 2], [8, 1, 2]])
    assert phonebook.recall(Oracle(), rows, asked=1) == {"whole": 0.75, "parts": 0.875}


@pytest.mark.engine
def test_a_short_book_is_learnt_by_heart_and_tells_nothing_of_other_names() -> None:
    drill = phonebook.phone_book(24, held=200)
    model = phonebook.rivals(replace(RIVAL, experts=8))[phonebook.EIGHT]
    steps = phonebook.steps_of(drill, 100, rows=24)
    options: Any = {"peak": 8e-3, "loss": phonebook.recall_loss(2)}
    training.train(model, phonebook.drill_batches(drill, rows=24), steps=steps, **options)
    assert phonebook.recall(model, drill.practised, 2)["whole"] > 0.9
    assert phonebook.recall(model, drill.held, 2)["whole"] < 0.02


# What was trained longer, and stored


def test_every_stored_size_was_tried_with_all_four_models_and_the_same_seeds() -> None:
    runs = stored("phonebook_05")["runs"]
    tried: dict[tuple[str, int], Counter[str]] = {}
    for run in runs:
        tried.setdefault((run["drill"], run["size"]), Counter())[run["model"]] += 1
    for models in tried.values():
        assert set(models) == set(RIVALS)
        assert len(set(models.values())) == 1


def test_no_stored_run_knows_a_name_that_it_was_not_shown() -> None:
    books = [run for run in stored("phonebook_05")["runs"] if run["drill"] == "book"]
    assert max(run["points"][-1]["held_whole"] for run in books) <= 0.005
