"""The forty questions' answers are stored as they come, gone on with, and judged by today's code."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import assistant
from helpers.assistant import questions
from helpers.assistant.documents import SHOP, Passage
from helpers.assistant.index import Hit, open_index
from helpers.assistant.questions import ShopQuestion
from talk import scripted

WARRANTY = Passage("Every lamp has a warranty of 3 years.", "returns.md", "Returns › Warranty")
TWO = [ShopQuestion("How long is a lamp guaranteed?", "returns.md", "Warranty", (("3 years",),))]
TWO += [ShopQuestion("Do you sell candles?", None, None)]


class OnePage:
    def search(self, question: str, most: int, by: str) -> list[Hit]:
        return [Hit(WARRANTY, 0.03, 1, 1, 0.8)]


def run(monkeypatch: pytest.MonkeyPatch, *written: str, rows: list | None = None) -> tuple[list, int]:
    """The rows of a run in which a model writes that, and how often it was asked."""
    chat = scripted(*written)
    monkeypatch.setattr(assistant, "open_chat", lambda *_, **__: chat)
    return assistant.run("smollm2-135m", OnePage(), TWO, rows or []), len(chat.backend.asked)


def test_a_second_run_asks_nothing_and_judges_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assistant, "STORED", tmp_path / "rows.json")
    rows, asked = run(monkeypatch, "A warranty of 3 years.", "I don't know.", "Three years.", "Yes, candles.")
    assert asked == 4
    assert [row["verdict"] for row in rows] == ["right", "refused", "wrong", "wrong"]
    rows[0]["verdict"] = "of an older code"
    again, asked = run(monkeypatch, "…", rows=rows)
    assert (asked, again[0]["verdict"]) == (0, "right")
    assert json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["rows"] == again
    assert not (tmp_path / "rows.part").exists()


@pytest.mark.engine
def test_what_is_stored_is_whole_and_of_todays_code(tmp_path: Path) -> None:
    rows = json.loads(assistant.STORED.read_text(encoding="utf-8"))["rows"]
    forty = {one.question: one for one in questions.shop_questions()}
    answered = Counter((row["model"], row["way"]) for row in rows)
    assert set(answered.values()) == {len(forty)}
    assert set(answered) >= {(model, way) for model in assistant.MODELS for way in assistant.WAYS}
    with open_index(SHOP, tmp_path / "shop.sqlite") as index:
        for row in rows:
            one = forty[row["question"]]
            assert row["mark"] == assistant.fingerprint(row["model"], row["way"], index, one)
            assert row | assistant.judged(row["way"], one, index, row) == row
