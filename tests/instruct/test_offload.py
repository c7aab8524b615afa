"""A model that does not fit: its layers on disk, its answers the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.backends import Backend
from helpers.chat import Chat, open_chat
from helpers.errors import InvalidInput, NotEnoughMemory
from helpers.instruct.offload import open_offloaded, placement
from helpers.records import ModelCard
from talk import fresh


@pytest.fixture(scope="module")
def offloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    folder = tmp_path_factory.mktemp("offload")
    with open_offloaded("smollm2-135m", max_memory={"cpu": "150MB"}, folder=folder, max_new_tokens=4) as chat:
        yield chat


def test_some_layers_are_on_disk_and_none_is_lost(offloaded: Chat, card: ModelCard) -> None:
    table = placement(offloaded).set_index("device")
    assert set(table.index) == {"cpu", "disk"}
    assert table.loc["disk", "modules"] >= 10
    assert table["parameters"].sum() == card.parameters


def test_the_answer_is_that_of_the_model_in_memory(offloaded: Chat, reference: Backend, card: ModelCard) -> None:
    question = "What is the capital of Sweden?"
    answer = fresh(reference, card, max_new_tokens=4).say(question).text
    assert offloaded.say(question).text == answer == "The capital of Sweden"


def test_limits_below_one_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughMemory, match="not even the first layer"):
        open_offloaded("smollm2-135m", max_memory={"cpu": "1MB"}, folder=tmp_path)


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot compute in q2"):
        open_offloaded("smollm2-135m", max_memory={}, folder=tmp_path, precision="q2")


def test_a_chat_that_was_not_placed_says_so() -> None:
    with pytest.raises(InvalidInput, match="not placed by accelerate"):
        placement(open_chat("smollm2-135m", backend="echo"))
