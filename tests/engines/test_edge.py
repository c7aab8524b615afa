"""What fits where: arithmetic against figures that others have published."""

from __future__ import annotations

import pytest

from helpers import anatomy
from helpers.engines import edge
from helpers.errors import InvalidInput


def test_phi_3_mini_takes_the_published_1_8_gb_in_four_bits() -> None:
    assert edge.needed_bytes("phi-3-mini", "int4", context=0) == pytest.approx(1.8e9, rel=0.07)


def test_a_longer_conversation_needs_more_and_by_its_cache() -> None:
    grown = edge.needed_bytes("phi-4-mini", context=2000) - edge.needed_bytes("phi-4-mini", context=1000)
    assert grown == 1000 * 131_072


def test_every_phi_meets_every_device() -> None:
    rows = edge.device_table()
    assert len(rows) == len(edge.phis()) * len(edge.USUAL) >= 11 * 4
    assert {row["family"] for row in rows} == {"Phi-3", "Phi-3.5", "Phi-4"}


def test_what_does_not_fit_has_no_rate() -> None:
    rows = edge.device_table()
    assert all((row["predicted_tokens_per_second"] is None) == (not row["fits"]) for row in rows)
    assert {row["fits"] for row in rows} == {True, False}


def test_the_mixture_fits_the_h100_alone_and_is_fast_there() -> None:
    rows = {row["device"]: row for row in edge.device_table() if row["model"] == "phi-3.5-moe"}
    assert [device for device, row in rows.items() if row["fits"]] == ["NVIDIA H100"]
    dense = edge.bound("phi-4", "h100")
    assert rows["NVIDIA H100"]["predicted_tokens_per_second"] > 2 * dense


def test_a_bound_is_bandwidth_by_bytes() -> None:
    device = anatomy.DEVICES["phone"]
    assert edge.bound("phi-3-mini", device) * anatomy.bytes_per_token("phi-3-mini", "Q4_K") == pytest.approx(76.8e9)


def test_a_full_cache_slows_down() -> None:
    row = next(row for row in edge.device_table(devices=["laptop"]) if row["model"] == "phi-3.5-mini")
    assert row["full_tokens_per_second"] < 0.7 * row["predicted_tokens_per_second"]


def test_a_phone_keeps_more_of_its_memory_for_itself() -> None:
    assert edge.needed_bytes("phi-4") < 0.75 * anatomy.DEVICES["phone"].memory_gib * edge.GIB
    assert not edge.fits("phi-4", "phone")


def test_no_published_rate_breaks_the_bound() -> None:
    rows = edge.checked()
    assert len(rows) >= 5
    assert all(0.03 < row["share"] < 1 for row in rows)
    assert all(row["source"].startswith("https://") and row["note"] for row in rows)


def test_the_phone_of_the_technical_report_is_among_them() -> None:
    row = next(row for row in edge.checked() if "2404.14219" in row["source"])
    assert row["measured_tokens_per_second"] == 12
    assert row["predicted_tokens_per_second"] == pytest.approx(51.2e9 / 1.86e9, rel=0.01)


def test_an_unknown_device_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"no device 'toaster'.*\n.*phone"):
        edge.fits("phi-4", "toaster")
