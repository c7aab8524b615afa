"""The Hub refuses to start where people could reach each other, or the instructor's keys."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from helpers.classroom import hub
from helpers.classroom.folder import ClassFolder
from helpers.errors import InvalidInput


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClassFolder:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(hub, "is_root", lambda: False)
    monkeypatch.setattr(hub, "DOTENV", tmp_path / ".env")
    made = ClassFolder(tmp_path / "class")
    made.make()
    return made


def test_alone_on_loopback_anybody_may_try_it(folder: ClassFolder) -> None:
    hub.refuse_unsafe(folder, sys.executable)


def test_without_root_nobody_else_is_let_in(folder: ClassFolder) -> None:
    folder.at("class.toml").write_text('host = "0.0.0.0"')
    with pytest.raises(InvalidInput, match="Only root"):
        hub.refuse_unsafe(folder, sys.executable)


def test_the_instructors_keys_are_not_put_before_everybody(folder: ClassFolder, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NVIDIA_API_KEY=x")
    with pytest.raises(InvalidInput, match="everybody's"):
        hub.refuse_unsafe(folder, sys.executable)


def test_a_course_that_others_cannot_read_is_told_before_anybody_logs_in(
    folder: ClassFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "is_root", lambda: True)
    tmp_path.chmod(0o700)
    with pytest.raises(InvalidInput, match="cannot reach"):
        hub.refuse_unsafe(folder, str(tmp_path / "python"))


def test_other_systems_are_told_what_to_do_instead_before_anything_is_installed(
    folder: ClassFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(hub.environments, "ensure", lambda name: pytest.fail(f"{name} was made"))
    with pytest.raises(InvalidInput, match="Linux"):
        hub.run_hub(folder)


def test_a_certificate_needs_the_name_that_it_is_for(folder: ClassFolder) -> None:
    settings = 'certificate = "a.pem"\n'
    for address in ("", "http://slm.example.org:8000"):
        folder.at("class.toml").write_text(f"{settings}address = {address!r}")
        with pytest.raises(InvalidInput, match="by the name that it is for"):
            hub.refuse_unsafe(folder, sys.executable)
    folder.at("class.toml").write_text(f'{settings}address = "https://slm.example.org:8000"')
    hub.refuse_unsafe(folder, sys.executable)


@pytest.mark.parametrize("further", [0, 3])
def test_a_taken_port_is_told_before_the_hub_starts(further: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match="cannot have port"):
            hub.refuse_taken("127.0.0.1", number - further)


def test_only_models_are_shared_and_no_note_with_a_key(
    folder: ClassFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    (cache / "one").mkdir(parents=True)
    for name in ("a.gguf", "server.json", "one/config.json", "a.gguf.lock"):
        (cache / name).write_text("x")
    monkeypatch.setenv("SLM_HOME", str(cache))
    hub.share(folder, sys.executable)
    shared = folder.at("shared", "models")
    assert {path.relative_to(shared).as_posix() for path in shared.rglob("*")} == {"a.gguf", "one", "one/config.json"}
