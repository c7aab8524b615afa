"""The scores of an evaluation, and that they do not depend on how many processes computed them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.backends import Backend
from helpers.chat import Chat, open_chat
from helpers.errors import InvalidInput
from helpers.instruct import evaluate as module
from helpers.instruct import tasks
from helpers.instruct.evaluate import COLUMNS, baseline, evaluate, score_means
from helpers.records import ModelCard
from talk import fresh

ROOT = Path(__file__).parents[2]


@pytest.fixture
def echo() -> Chat:
    return open_chat("smollm2-135m", backend="echo")


def test_there_is_one_row_an_item_in_order(echo: Chat) -> None:
    items = tasks.load("prompting", limit=6)
    rows = evaluate(echo, items)
    assert list(rows.columns) == [*COLUMNS, "right", "brief"]
    assert list(rows["number"]) == [item.number for item in items]
    assert list(rows["prompt"]) == [item.prompt for item in items]
    assert (rows["seconds"] > 0).all()


def test_an_answer_that_the_cap_ended_is_marked(echo: Chat) -> None:
    item = tasks.load("prompting", limit=1)[0]
    words = len(item.prompt.split())
    rows = evaluate(echo, [replace(item, max_new_tokens=cap) for cap in (words - 1, words)])
    assert list(rows["cut"]) == [True, False]


def test_the_chat_is_left_as_it_was(echo: Chat) -> None:
    echo.say("Hello")
    before = echo.history
    evaluate(echo, tasks.load("completion", limit=1))
    assert echo.history == before
    assert echo.reuse_prompt


def test_any_score_can_be_given(echo: Chat) -> None:
    rows = evaluate(echo, tasks.load("completion", limit=2), lambda item, answer: {"length": float(len(answer))})
    assert list(rows["length"]) == [len(answer) for answer in rows["answer"]]


def test_examples_and_system_message_reach_the_model(echo: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    encode = echo.backend.encode
    monkeypatch.setattr(echo.backend, "encode", lambda turns: seen.append(list(turns)) or encode(turns))
    for style in ("plain", "system message", "few-shot"):
        evaluate(echo, tasks.load("prompting", style=style, limit=1))
    assert ["".join(turn.role[0] for turn in turns) for turns in seen] == ["u", "su", "uauauau"]


def test_a_completion_is_asked_without_the_template(echo: Chat) -> None:
    rows = evaluate(echo, tasks.load("completion", limit=1))
    assert rows["prompt_tokens"][0] == len("The capital of Sweden is".split())


def test_a_schema_makes_every_answer_valid(llama: Backend, card: ModelCard) -> None:
    rows = evaluate(fresh(llama, card), tasks.load("extraction", style="schema", limit=2))
    assert rows["valid"].all()


def test_the_model_completes_better_than_nothing(llama: Backend, card: ModelCard) -> None:
    rows = evaluate(fresh(llama, card), tasks.load("completion", limit=8))
    assert rows["right"].sum() >= 2


def test_shares_get_wilsons_interval_and_means_students() -> None:
    rows = pd.DataFrame({"task": "t", "right": [True, True, True, False], "chrf": [10.0, 20, 30, 40]})
    share, mean = score_means(rows, by=("task",)).to_dict("records")
    assert (share["measure"], share["score"], share["items"]) == ("right", 75, 4)
    assert (round(share["low"], 1), round(share["high"], 1)) == (30.1, 95.4)
    assert (mean["measure"], mean["score"], round(mean["low"], 1), round(mean["high"], 1)) == ("chrf", 25, 4.5, 45.5)


def test_tasks_with_different_measures_stand_in_one_table(echo: Chat) -> None:
    both = pd.concat([evaluate(echo, tasks.load(task, limit=3)) for task in ("completion", "extraction")])
    table = score_means(both, by=("task",))
    assert list(table["measure"]) == ["right", "valid", "exact", "fields"]
    assert set(table["items"]) == {3}


def test_copying_the_english_scores_more_in_swedish_than_in_chinese() -> None:
    table = score_means(baseline(tasks.load("translation"))).set_index("group")
    assert table.loc["Chinese", "score"] < 1 < table.loc["Swedish", "score"] < 30
    assert set(table["style"]) == {"baseline"}


def test_what_cannot_be_evaluated_is_refused(echo: Chat) -> None:
    with pytest.raises(InvalidInput, match="no items"):
        evaluate(echo, [])
    with pytest.raises(InvalidInput, match="no trivial answer"):
        baseline(tasks.load("completion"))
    with pytest.raises(InvalidInput, match="cannot honour json_schema"):
        evaluate(echo, tasks.load("extraction", style="schema", limit=1))


def run(*arguments: str) -> dict[str, Any]:
    """The last line that the command prints, read as JSON."""
    command = [sys.executable, "-m", "helpers.instruct.evaluate", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.nightly
def test_two_processes_give_the_scores_of_one() -> None:
    task = ("--task", "translation", "--group", "French", "--limit", "5", "--backend", "llamacpp")
    one, two = run(*task), run(*task, "--processes", "2")
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["scores"] == two["scores"]
    assert one["new_tokens"] == two["new_tokens"]
    assert one["scores"][0]["items"] == 5


def test_an_error_is_a_sentence_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert module.main(["--task", "translation", "--group", "Latin"]) == 1
    assert "no group 'Latin'" in capsys.readouterr().err
