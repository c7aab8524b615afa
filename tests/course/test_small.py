"""The first notebooks on a machine that has only the smallest model, and the encoder for searches."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import catalog
from helpers.course import execute
from helpers.models import fetching

LARGER = ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")


@pytest.fixture
def only_the_smallest(small_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_HOME", str(small_home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SLM_MIRROR", raising=False)


@pytest.mark.usefixtures("only_the_smallest")
def test_a_larger_rung_is_no_rung_where_its_file_is_not() -> None:
    assert [card.name for card in fetching.rungs()] == ["smollm2-135m"]
    assert all(fetching.lacking(catalog.card(name)) for name in LARGER)


@pytest.mark.nightly
@pytest.mark.engine
@pytest.mark.usefixtures("only_the_smallest")
@pytest.mark.parametrize("number", ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09"])
def test_a_notebook_runs_to_its_end_on_the_smallest_model(number: str) -> None:
    (path,) = execute.chosen([number])
    assert execute.execute(path).failure == ""
