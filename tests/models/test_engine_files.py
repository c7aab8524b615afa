"""What is made once for an engine: kept while it is whole, made again when it is damaged or the engine is another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import catalog
from helpers.errors import BackendUnavailable, NotEnoughDisk, NotEnoughMemory
from helpers.models import convert, engine_files
from helpers.records import ModelCard

#: What builds the folder of an engine, and what asks for it.
FORMS: dict[str, tuple[str, Callable[[ModelCard], Path]]] = {
    "onnx-genai": ("_build_onnx", lambda card: engine_files.onnx(card, "int4")),
    "openvino": ("_unpack_for_openvino", engine_files.openvino),
}


@pytest.fixture(params=FORMS)
def make(
    request: pytest.FixtureRequest, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Path]:
    """Makes the folder in a home of its own, by a builder that writes small files; manifest and lock are real."""
    builder, made = FORMS[request.param]

    def build(_: ModelCard, __: Path, part: Path, *how: str) -> None:
        part.mkdir()
        for name in ("model.onnx", "1.blob", "tokenizer.json"):
            (part / name).write_bytes(name.encode() * 9)
        convert.write_manifest(part, source_sha256=how[-1])

    monkeypatch.setattr(engine_files, "home", lambda: tmp_path)
    monkeypatch.setattr(engine_files, "version", lambda _: "1")
    monkeypatch.setattr(engine_files.sources, "folder", lambda _: tmp_path)
    monkeypatch.setattr(engine_files.sources, "gguf", lambda _: tmp_path)
    monkeypatch.setattr(engine_files, builder, build)
    return lambda: made(card)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    "damage",
    [
        # OpenVINO loads a compiled model with a wrong byte without a word.
        lambda folder: (folder / "1.blob").write_bytes(b"1.bloc" * 9),
        lambda folder: (folder / "model.onnx").write_bytes(b""),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
    ],
    ids=["a byte changed", "a file cut", "a file gone", "no manifest"],
)
def test_a_damaged_folder_is_noticed_and_made_again(damage: Callable[[Path], Any], make: Callable[[], Path]) -> None:
    folder = make()
    whole = contents(folder)
    damage(folder)
    assert make() == folder
    assert contents(folder) == whole


def test_it_is_made_again_for_another_version_and_for_no_other_reason(
    make: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make()
    first = (folder / "manifest.json").stat().st_mtime_ns
    make()
    assert (folder / "manifest.json").stat().st_mtime_ns == first
    monkeypatch.setattr(engine_files, "version", lambda _: "2")
    make()
    assert (folder / "manifest.json").stat().st_mtime_ns != first


@pytest.mark.parametrize(
    ("name", "precision"), [("smollm2-135m", "int4"), ("qwen2.5-coder-0.5b", "int8"), ("phi-3.5-mini", "int4")]
)
def test_what_a_file_holds_in_more_bits_is_not_rounded_to_four(name: str, precision: str) -> None:
    assert engine_files.onnx_default(catalog.card(name)) == precision


def test_the_builder_is_refused_the_memory_of_what_the_file_stores_and_not_of_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helpers.machine.free_memory_gib", lambda: 6.0)
    with pytest.raises(NotEnoughMemory, match="Building Qwen2.5-Coder-0.5B as an ONNX folder needs 6.3 GiB"):
        engine_files._build_onnx(catalog.card("qwen2.5-coder-0.5b"), tmp_path, tmp_path / "part", "int8", "x")


def test_unpacking_for_openvino_asks_for_its_memory_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "large.gguf"
    with file.open("wb") as stream:
        stream.truncate(491_400_064)  # as large as the real one, and empty
    monkeypatch.setattr("helpers.machine.free_memory_gib", lambda: 3.0)
    with pytest.raises(NotEnoughMemory, match="Unpacking Qwen2.5-Coder-0.5B for OpenVINO needs 3.2 GiB"):
        engine_files._unpack_for_openvino(catalog.card("qwen2.5-coder-0.5b"), file, tmp_path / "part", "x")
    assert not (tmp_path / "part").exists()


def test_a_table_apart_from_the_output_matrix_is_counted_in_32_bits(card: ModelCard) -> None:
    coder = catalog.card("qwen2.5-coder-0.5b")
    assert engine_files._onnx_bytes(coder, "int8") > 1_109_000_000  # as it was built
    assert engine_files._onnx_bytes(card, "int4") == int(0.8 * card.parameters)


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", NotEnoughDisk, "disk became full"),
        ("ModuleNotFoundError: No module named 'onnx_ir'", BackendUnavailable, "not installed whole.*onnx_ir"),
        ("x\nNotImplementedError: class X is not supported\n", BackendUnavailable, "cannot build.*class X"),
    ],
)
def test_a_failed_build_ends_in_a_sentence(said: str, kind: type[Exception], sentence: str, card: ModelCard) -> None:
    with pytest.raises(kind, match=sentence):
        raise engine_files._builder_failed(card, said)


def test_an_interrupted_build_ends_its_process() -> None:
    def stopped() -> None:
        command = [sys.executable, "-u", "-c", "print('started'); import time; time.sleep(60)"]
        with engine_files._running(command) as said:
            assert next(said) == "started\n"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()


def test_a_build_that_fails_is_told_apart_from_one_that_ends_well() -> None:
    command = [sys.executable, "-c", "print('no'); raise SystemExit(3)"]
    with pytest.raises(subprocess.CalledProcessError), engine_files._running(command) as said:
        assert list(said) == ["no\n"]
