"""Files that are made once, hub models and their cache, and what is converted; no test needs the network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import catalog
from helpers.chat import open_chat
from helpers.errors import DamagedFile, ModelUnavailable, NetworkNeeded, NotEnoughMemory
from helpers.models import convert, files, sources, transports
from helpers.records import HubFiles
from model_stand_ins import CONTENT


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


def test_not_enough_memory_is_said_before_the_load(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("helpers.machine.free_memory_gib", lambda: 0.01)
    for backend in ("llamacpp", "transformers"):
        with pytest.raises(NotEnoughMemory, match=r"needs .* of memory, and this machine has"):
            open_chat("smollm2-135m", backend=backend)


@pytest.mark.parametrize(("name", "needed"), [("qwen2.5-coder-0.5b", "2.3"), ("qwen2.5-coder-1.5b", "6.6")])
def test_a_rung_that_memory_does_not_hold_is_refused_before_it_is_converted(
    name: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two numbers are stored of the embedding where the output matrix stands apart, and both take memory.
    monkeypatch.setattr("helpers.machine.free_memory_gib", lambda: 2.0)
    monkeypatch.setattr(sources, "folder", lambda card: pytest.fail("it was converted first"))
    with pytest.raises(NotEnoughMemory, match=rf"{name[-4:].upper()} needs {needed} GiB of memory.*2\.0 GiB free"):
        open_chat(name, backend="transformers", precision="fp32")


def test_hub_model_without_network_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkNeeded, match=r"download of 7\.\d GB .* GiB of memory. Tried: .*microsoft/Phi-4-mini"):
        sources.folder(catalog.card("phi-4-mini"))


@pytest.mark.fault("models and their files")
def test_hub_model_that_needs_its_own_code_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="without code of its own"):
        sources.folder(catalog.card("phi-3.5-vision"))


def test_model_without_public_weights_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="no weights"):
        sources.folder(catalog.card("gpt-4"))


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of phi-4-mini in a hub's cache, empty, and no hub that answers."""
    hub = catalog.card("phi-4-mini").hub
    repository = tmp_path / f"models--{hub.repo.replace('/', '--')}"
    folder = repository / "snapshots" / str(hub.revision)
    folder.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return folder


WHOLE = ["config.json", "tokenizer.json", "model.safetensors"]
PIECES = ["config.json", "tokenizer.json", "model.safetensors.index.json"]
PIECES += ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize("names", [WHOLE, PIECES], ids=["one file", "pieces"])
def test_a_whole_model_in_the_hubs_cache_is_opened_from_there(snapshot: Path, names: list[str]) -> None:
    for name in names:
        (snapshot / name).touch()
    assert sources.folder(catalog.card("phi-4-mini")) == snapshot
    assert sources.state("phi-4-mini") == "ready"


def test_a_model_that_sees_needs_what_cuts_its_pictures(snapshot: Path) -> None:
    for name in WHOLE:
        (snapshot / name).write_text('{"vision_config": {}}')
    assert sources.state("phi-4-mini") == "missing"
    (snapshot / "preprocessor_config.json").touch()
    assert sources.state("phi-4-mini") == "ready"


def test_a_hub_that_says_nothing_is_given_up_soon(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(transports, "REACH_SECONDS", 0.2)
    monkeypatch.setattr("helpers.machine.free_disk_gib", lambda _: 1000.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(NetworkNeeded, match=r"Tried: .*Phi-4-mini-instruct said nothing within"):
            sources.folder(catalog.card("phi-4-mini"))


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize("lost", [*WHOLE, *PIECES[2:]])
def test_a_half_filled_cache_is_no_model_and_is_completed(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    for name in WHOLE if lost in WHOLE else PIECES:
        (snapshot / name).touch()
    (snapshot / lost).unlink()
    (snapshot / lost).symlink_to(snapshot / "blob that is gone")  # as a cache is left that somebody cleared
    assert sources.state("phi-4-mini") == "missing"
    monkeypatch.setattr(sources, "_download", lambda card: Path(f"completed {card.name}"))
    assert sources.folder(catalog.card("phi-4-mini")) == Path("completed phi-4-mini")


def test_certificates_that_are_gone_are_named(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    monkeypatch.setattr("helpers.machine.free_disk_gib", lambda _: 1000.0)
    with pytest.raises(ModelUnavailable, match="SSL_CERT_FILE names a file that is not there"):
        sources.folder(catalog.card("phi-4-mini"))


@pytest.fixture
def asked_hub(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the hub's client is asked with."""
    seen: dict[str, object] = {}
    monkeypatch.setattr("helpers.machine.free_disk_gib", lambda _: 1000.0)
    monkeypatch.setattr(sources, "_require_hub", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda **asked: seen.update(asked) or str(snapshot))
    return seen


def test_a_token_in_dotenv_reaches_the_hub(
    asked_hub: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("HF_TOKEN=hf_planted\n")
    monkeypatch.setattr("helpers.settings.DOTENV", tmp_path / ".env")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    sources._download(catalog.card("phi-4-mini"))
    assert asked_hub["token"] == "hf_planted"


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.usefixtures("asked_hub")
def test_a_hub_token_with_its_quotes_pasted_along_is_told_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "“hf_planted”")
    with pytest.raises(ModelUnavailable, match="HF_TOKEN cannot be a token: character 1 of 12") as refused:
        sources._download(catalog.card("phi-4-mini"))
    assert "planted" not in str(refused.value)


def test_hub_files_hold_no_code() -> None:
    from fnmatch import fnmatch

    from helpers.models.sources import ALLOWED

    assert not any(fnmatch(name, pattern) for pattern in ALLOWED for name in ("modeling_phi.py", "pytorch_model.bin"))
    assert HubFiles("a/b").revision is None


@pytest.mark.fault("models and their files")
def test_a_folder_with_a_changed_file_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    convert.write_manifest(tmp_path, source_sha256="abc")
    assert convert.is_whole(tmp_path, source_sha256="abc")
    assert not convert.is_whole(tmp_path, source_sha256="other")
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    assert not convert.is_whole(tmp_path, source_sha256="abc")


def test_a_gguf_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    with pytest.raises(DamagedFile, match="cannot be read as a GGUF file"):
        convert.gguf_to_folder(tmp_path / "model.gguf", tmp_path / "out", context=8192)
