"""The long trainings' scripts, run short on a tiny model: they store, go on, and refuse what other settings made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.data import stored
from helpers.errors import InvalidInput
from helpers.making import finetuning
from helpers.reasoning import warmup
from helpers.reasoning.rewards import checked_reward
from tiny_llama import tiny_llama
from training import grpo_08, runs


@pytest.fixture
def small(tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """GRPO's script with two short runs of a tiny model, which stores and keeps its checkpoints in a folder."""
    monkeypatch.setattr(warmup, "UPPER_LAYERS", range(1, 2))
    monkeypatch.setattr(finetuning, "base", lambda: (tiny_llama(), tokenizer))
    monkeypatch.setattr(grpo_08, "KINDS", {"cold": (checked_reward, 0, 2)})
    monkeypatch.setattr(grpo_08, "ORDER", [("cold", 0), ("cold", 1)])
    monkeypatch.setattr(grpo_08, "HELD", 3)
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    monkeypatch.setattr(runs, "home", lambda: tmp_path / "home")
    return tmp_path / "grpo_08.json"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["grpo_08", *arguments])
    grpo_08.main()


@pytest.mark.nightly
def test_each_run_is_stored_when_it_is_done_and_only_what_lacks_is_trained(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, "--only", "cold-0")
    first = json.loads(small.read_text())
    assert [(one["kind"], one["seed"]) for one in first["runs"]] == [("cold", 0)]
    call(monkeypatch)
    both = json.loads(small.read_text())
    assert both["runs"][0] == first["runs"][0]
    assert [point["reward"] for point in both["runs"][1]["points"][1:]] == [0.0, 0.0]
    assert not list((small.parent / "home").rglob("checkpoint-*"))


def test_runs_of_other_settings_are_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = runs.StoredRuns("grpo_08", grpo_08.settings())
    store.add({"kind": "cold", "seed": 0})
    monkeypatch.setattr(grpo_08, "LEARNING_RATE", 1.0)
    other = runs.StoredRuns("grpo_08", grpo_08.settings())
    with pytest.raises(InvalidInput, match="learning_rate"):
        other.read()
    assert store.checkpoints("cold", 0) != other.checkpoints("cold", 0)


def test_settings_tell_what_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before: dict[str, Any] = grpo_08.settings()
    monkeypatch.setattr(grpo_08.warmup, "FORM_ASKED", "Answer.")
    assert grpo_08.settings()["data"] != before["data"]


# What was trained longer, and stored


def test_a_stored_run_has_a_row_for_each_step_and_is_looked_at_before_and_after() -> None:
    for run in stored("grpo_08")["runs"]:
        points = run["points"]
        assert [point["step"] for point in points] == list(range(len(points)))
        assert all(len(point["drawn"]["marks"]) == point["drawn"]["items"] for point in (points[0], points[-1]))


def test_without_a_warm_up_nothing_was_ever_earned_and_nothing_moved() -> None:
    (cold,) = [run["points"] for run in stored("grpo_08")["runs"] if run["kind"] == "cold"]
    assert {(point["reward"], point["equal"]) for point in cold[1:]} == {(0.0, 1.0)}
    assert cold[0]["greedy"] == cold[-1]["greedy"]
