"""What the course stores in data/ is found by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import data
from helpers.errors import DamagedFile, InvalidInput


def test_a_stored_file_is_read_by_its_name() -> None:
    assert {"question", "options"} <= set(data.stored("comprehension")[0])


def test_an_unknown_name_is_told_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match=r"(?s)'faqs'.*bias_pairs.*faq"):
        data.stored("faqs")


def test_a_file_cut_short_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half.json").write_text('{"entries": [', encoding="utf-8")
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    with pytest.raises(DamagedFile, match=r"(?s)half\.json.*git"):
        data.stored("half")
