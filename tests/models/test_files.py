"""A file that is made once: who waits for whom, and what is told where nobody can lock."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.errors import ModelUnavailable
from helpers.models import files
from waiting import until


def make(target: Path) -> Path:
    return files.make_once(target, lambda part: part.write_text("made"), lambda p: p.exists(), size=0, what="it")


@pytest.mark.fault("models and their files")
@pytest.mark.skipif(os.name == "nt", reason="Windows locks by another call")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_home_on_a_disk_without_locks_is_a_sentence(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(ModelUnavailable, match=r"without file locks(.|\n)*SLM_HOME"):
        make(tmp_path / "it")
    assert not (tmp_path / "it").exists()


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize("left", ["", "4711\nanother-machine\n"], ids=["empty", "a mark of another machine"])
def test_a_lock_file_that_was_left_behind_delays_nobody(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "it.lock").write_text(left)
    monkeypatch.setattr(files, "LOCK_SECONDS", 0)
    assert make(tmp_path / "it").read_text() == "made"


def test_who_waits_for_another_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with files.alone(tmp_path / "it", "it"):
        second = threading.Thread(target=make, args=[tmp_path / "it"], daemon=True)
        second.start()
        assert until(lambda: "Another process is making it" in capsys.readouterr().out)
        assert not (tmp_path / "it").exists()
    second.join(10)
    assert (tmp_path / "it").read_text() == "made"


def test_a_wait_without_end_becomes_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_SECONDS", 0)
    refused: list[BaseException] = []

    def second() -> None:
        try:
            make(tmp_path / "it")
        except ModelUnavailable as error:
            refused.append(error)

    with files.alone(tmp_path / "it", "it"):
        waiting = threading.Thread(target=second, daemon=True)
        waiting.start()
        waiting.join(30)
    assert "End that process" in str(refused[0])


def test_what_is_written_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "it"
    with files.written_whole(target) as part:
        part.write_text("first")
    with suppress(KeyboardInterrupt), files.written_whole(target) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "first"
    for name in ("folder", "again"):  # a folder in the place of a file, then of a folder
        with files.written_whole(target) as part:
            part.mkdir()
            (part / name).touch()
    assert [path.name for path in target.iterdir()] == ["again"]
    assert list(target.parent.iterdir()) == [target]
