"""The drawings show the numbers that they are given."""

from __future__ import annotations

import pytest

from helpers.making import drawings


def test_an_adapter_is_drawn_to_scale_with_its_counts() -> None:
    ax = drawings.adapter(576, 192, 8)
    boxes = [(box.get_height(), box.get_width()) for box in ax.patches]
    assert boxes == [(576, 192), (576, 8), (8, 192)]
    assert "4,608 numbers" in ax.texts[1].get_text()
    assert ax.get_aspect() == 1


def test_a_weight_goes_to_a_level_of_those_that_share_its_scale() -> None:
    ax = drawings.rounding([0.02, -0.03, 0.9, 0.1], 4, [4, 2], shown=2)
    coarse, fine = (line.get_xdata() for line in ax.lines if line.get_marker() == "|")
    assert max(coarse) == pytest.approx(0.9)
    assert max(fine) == pytest.approx(0.03)
    ends = [arrow.xy for arrow in ax.texts]
    assert ends == [(0, 0), (0, 0), (pytest.approx(0.03 * 5 / 7), 1), (pytest.approx(-0.03), 1)]
