"""A block on Qualcomm's emulation: placed there, close to floating point, compiled for a phone."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import pytest

from helpers.engines import qnn
from helpers.errors import BackendUnavailable


@pytest.fixture(scope="module")
def emulated() -> dict[str, Any]:
    """The experiment, once; it takes several seconds."""
    reason = qnn.missing()
    if reason:
        pytest.skip(reason)
    return qnn.experiment()


def rows(emulated: dict[str, Any], layer: int) -> dict[tuple[int, bool], dict[str, Any]]:
    return {(row["activation_bits"], row["per_channel"]): row for row in emulated["rows"] if row["layer"] == layer}


def test_every_node_ran_on_qnn(emulated: dict[str, Any]) -> None:
    assert [row["nodes_on"] for row in emulated["rows"]] == [[qnn.PROVIDER]] * 2 * len(qnn.SCHEMES)


def test_a_node_that_the_npu_cannot_compute_is_refused_and_not_moved(emulated: dict[str, Any]) -> None:
    assert "fallback to CPU EP has been explicitly disabled" in emulated["refused"]


def test_the_block_has_the_models_shapes(emulated: dict[str, Any]) -> None:
    assert emulated["shape"] == [qnn.ROWS, 576, 1536]


def test_sixteen_bits_of_activations_stay_close_to_floating_point(emulated: dict[str, Any]) -> None:
    assert rows(emulated, 15)[16, False]["qnn_error_percent"] < 10


@pytest.mark.parametrize("layer", [15, 28])
def test_eight_bits_of_activations_lose_more(emulated: dict[str, Any], layer: int) -> None:
    row = rows(emulated, layer)
    assert row[8, False]["qnn_error_percent"] > 1.5 * row[16, False]["qnn_error_percent"]


def test_the_emulation_computes_what_the_quantized_graph_says(emulated: dict[str, Any]) -> None:
    plain = [row for row in emulated["rows"] if not row["per_channel"]]
    assert all(abs(row["qnn_error_percent"] - row["cpu_error_percent"]) < 4 for row in plain)


def test_whole_numbers_take_a_quarter_of_the_space(emulated: dict[str, Any]) -> None:
    assert emulated["bytes"]["quantized"] == pytest.approx(emulated["bytes"]["float"] / 4, rel=0.02)


def test_a_binary_is_compiled_for_chips_that_are_not_here(emulated: dict[str, Any]) -> None:
    assert set(emulated["compiled_bytes"]) == set(qnn.HTP_VERSIONS)
    assert min(emulated["compiled_bytes"].values()) > 3 * 576 * 1536


@pytest.mark.parametrize("system", [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "aarch64")])
def test_elsewhere_a_sentence_says_why_not(monkeypatch: pytest.MonkeyPatch, system: tuple[str, str]) -> None:
    monkeypatch.setattr(platform, "system", lambda: system[0])
    monkeypatch.setattr(platform, "machine", lambda: system[1])
    with pytest.raises(BackendUnavailable, match="QNN cannot run here: .*\\.") as raised:
        qnn.experiment()
    assert "Traceback" not in str(raised.value)


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(qnn, "QNN_PACKAGES", ("not_a_package",))
    assert qnn.missing() == "the package not-a-package is not installed: python3 course.py lab --engines"


def test_the_error_is_relative_to_the_length() -> None:
    assert qnn._error(np.array([3.0, 0.0]), np.array([0.0, 4.0])) == pytest.approx(125)
