"""The explorer's picture follows its sliders, and there is a plain picture for those who have none."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt

from helpers.instruct import decoding
from helpers.records import Sampling

LOGITS = np.random.default_rng(0).normal(0, 3, 50)


@pytest.fixture
def widget():
    return decoding.explorer(LOGITS, str, [int(LOGITS.argmax())])


@pytest.mark.parametrize(("slider", "value"), [(0, 0.4), (1, 3), (2, 0.5), (3, 1.5)])
def test_every_slider_redraws_the_picture(widget, slider, value):
    before = widget.children[-1].value
    widget.children[slider].value = value
    assert widget.children[-1].value != before


def test_the_picture_is_told_in_words_that_follow_the_sliders(widget):
    widget.children[1].value = 3
    assert 'alt="Bars of the likeliest next tokens: 3 tokens left' in widget.children[-1].value


def test_temperature_zero_can_be_chosen(widget):
    widget.children[0].value = 0.0
    assert "data:image/png;base64,iVBORw0KGgo" in widget.children[-1].value


def test_the_bars_are_the_table():
    table = decoding.candidates(LOGITS, str, Sampling(temperature=1.0, top_k=2), [], rows=5)
    ax = decoding.plot_candidates(table)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([*table["model"], *table["after"]])


def test_a_token_seen_before_has_a_star_and_its_space_shows():
    assert decoding._label(" the", True) == "' the'*"
    assert decoding._label("$", False) == r"'\$'"


@pytest.mark.parametrize(
    ("sampling", "words"), [(Sampling(), "1 token left"), (Sampling(temperature=1.0, top_k=7), "7 tokens left")]
)
def test_a_position_says_how_many_tokens_are_left(sampling, words):
    assert decoding.describe_position(LOGITS, sampling).startswith(words)


def test_the_stored_picture_has_six_positions_each_named_by_its_option():
    titles = [ax.get_title(loc="left") for ax in decoding.positions(LOGITS, str).axes]
    assert [title.split("\n")[0] for title in titles] == [
        *("temperature 1", "temperature 0.5", "temperature 2", "top k 3", "top p 0.7", "repetition penalty 1.5")
    ]


def test_exploring_shows_a_picture_first_and_then_the_sliders(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    decoding.explore(LOGITS, str)
    assert [type(each).__name__ for each in shown] == ["Image", "VBox"]
    assert plt.get_fignums() == []
