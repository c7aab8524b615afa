"""Measuring: warm-up, repeats, spread; the clock is the chat's, tested there."""

from __future__ import annotations

import pandas as pd
import pytest

from helpers.chat import open_chat
from helpers.errors import InvalidInput
from helpers.intervals import Spread
from helpers.measure import answers, memory_bandwidth, peak_memory, summary
from waiting import until


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    with open_chat("smollm2-135m", backend="echo") as one, open_chat("smollm2-135m", backend="echo") as two:
        return answers([one, two], ["one two three", "four five six seven"], repeats=3)


def test_one_row_for_each_chat_prompt_and_repeat(rows: pd.DataFrame) -> None:
    assert len(rows) == 2 * 2 * 3
    columns = "model backend precision prompt repeat prompt_tokens new_tokens ttft_seconds prefill_tokens_per_second"
    assert list(rows.columns) == [*columns.split(), "decode_tokens_per_second", "peak_memory_gib", "machine"]


def test_the_warm_up_is_not_measured_and_the_chat_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_chat("smollm2-135m", backend="echo") as chat:
        asked, generate = [], chat.backend.generate
        monkeypatch.setattr(chat.backend, "generate", lambda prompt, how: asked.append(prompt) or generate(prompt, how))
        assert len(answers([chat], ["a b"], repeats=2)) == 2
    assert [prompt.reuse for prompt in asked] == [False] * 3
    assert (chat.history, chat.reuse_prompt) == ((), True)


def test_without_the_template_a_prompt_is_plain_text() -> None:
    with open_chat("smollm2-135m", backend="echo") as chat:
        plain = answers([chat], ["a b"], repeats=1, template=False)
        assert plain.loc[0, "prompt_tokens"] == len(chat.backend.tokenize("a b"))


def test_prefill_rate_is_prompt_tokens_by_first_token_time(rows: pd.DataFrame) -> None:
    assert (
        (rows["prefill_tokens_per_second"] * rows["ttft_seconds"]).round(6).equals(rows["prompt_tokens"].astype(float))
    )


def test_summary_holds_the_spread(rows: pd.DataFrame) -> None:
    table = summary(rows)
    assert len(table) == 1
    assert table.loc[0, "ttft_seconds_low"] <= table.loc[0, "ttft_seconds"] <= table.loc[0, "ttft_seconds_high"]
    assert table.loc[0, "repeats"] == 12


@pytest.mark.parametrize("call", [lambda: answers([], ["a"]), lambda: Spread.of([])])
def test_nothing_to_measure_is_a_sentence(call: object) -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        call()


def test_peak_memory_sees_an_allocation() -> None:
    with peak_memory() as peak:
        before = peak.gib
        block = bytearray(300 * 1024**2)
        assert until(lambda: peak.gib > before + 0.2)
        del block
    assert peak.gib > before + 0.2


def test_bandwidth_is_a_spread_and_leaves_the_threads() -> None:
    import torch

    threads = torch.get_num_threads()
    found = memory_bandwidth(1, size=2**24, repeats=3)
    assert 0 < found.low <= found.median <= found.high
    assert torch.get_num_threads() == threads
