"""A tiny random Qwen2, whose file holds what two engines cannot read as it stands, is the same model on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize

from helpers.backends import engines
from helpers.chat import open_chat
from helpers.engines import agreement
from helpers.models import convert, engine_files
from tiny_gguf import as_gguf, tiny

TEXT = "abcdef ghi jkl, and the rest of it"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(its GGUF file, its folder): biases beside queries, keys and values; weights in Q5_0; an output matrix apart."""
    place = tmp_path_factory.mktemp("tiny-qwen")
    model = tiny("qwen2", tied=False)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # sure of itself, so that a lost bias changes what it thinks likely
    file = as_gguf(model, place / "tiny.gguf", "qwen2", "Q5_0")
    convert.gguf_to_folder(file, place / "made", context=128)
    return file, place / "made"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_HOME", str(tmp_path))


def likelihoods(model: Path, engine: str, **options: Any) -> torch.Tensor:
    if reason := engines()[engine].missing():
        pytest.skip(reason)
    with open_chat(model, engine, **options) as chat:
        return torch.tensor(agreement._READERS[engine](chat.backend, chat.backend.tokenize(TEXT)))


@pytest.fixture(scope="module")
def expected(files: tuple[Path, Path]) -> torch.Tensor:
    found = likelihoods(files[1], "transformers", precision="fp32")
    assert found.std() > 1
    return found


@pytest.mark.engine
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("engine", "precision", "apart"), [("openvino", None, 0.1), ("onnx-genai", "fp32", 0.1), ("mlx", "bf16", 0.5)]
)
def test_it_thinks_the_same_on_each_engine(
    files: tuple[Path, Path], expected: torch.Tensor, engine: str, precision: str | None, apart: float
) -> None:
    file, folder = files
    found = likelihoods(file if engine == "openvino" else folder, engine, precision=precision)
    assert (found - expected).abs().max() < apart


def test_what_openvino_cannot_read_is_kept_in_eight_bits_and_nothing_else_changes(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    engine_files._readable_by_openvino(files[0], tmp_path / "copy.gguf")
    before, after = (
        {t.name: (t.tensor_type.name, dequantize(t.data, t.tensor_type)) for t in GGUFReader(file).tensors}
        for file in (files[0], tmp_path / "copy.gguf")
    )
    assert {kind for kind, _ in before.values()} == {"F32", "Q5_0"}
    assert {kind for kind, _ in after.values()} == {"F32", "Q8_0"}
    for name, (_, numbers) in before.items():
        assert abs(after[name][1] - numbers).max() <= 0.005 * abs(numbers).max(), name


def test_a_file_that_openvino_reads_is_handed_to_it_as_it_is(tmp_path: Path) -> None:
    file = as_gguf(tiny("qwen2", tied=True), tmp_path / "tiny.gguf", "qwen2", "Q4_1")
    engine_files._readable_by_openvino(file, tmp_path / "copy.gguf")
    assert (tmp_path / "copy.gguf").read_bytes() == file.read_bytes()


def test_a_rewritten_file_keeps_what_stands_in_its_head(files: tuple[Path, Path], tmp_path: Path) -> None:
    engine_files._readable_by_openvino(files[0], tmp_path / "copy.gguf")
    kept, written = (GGUFReader(file).fields for file in (files[0], tmp_path / "copy.gguf"))
    assert {k: f.contents() for k, f in kept.items() if "GGUF." not in k} == {
        k: f.contents() for k, f in written.items() if "GGUF." not in k and k != "general.file_type"
    }
