"""The drawing of a request's road."""

from __future__ import annotations

from helpers.cloud import hops


def test_every_station_and_its_cost_stands_in_the_drawing() -> None:
    ax = hops.draw_hops({"request": "0.2 s", "model": "0.8 s"})
    written = {text.get_text() for text in ax.texts}
    assert {*hops.STATIONS, "0.2 s", "0.8 s"} <= written
