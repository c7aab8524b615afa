"""The locks hold what the requirements bring, and a change that was not locked is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.course import lock
from helpers.errors import CourseError

TEXTS = {
    name: lock.lock_of(lock.ROOT / name).read_text(encoding="utf-8") for name in (*lock.LAYERS, *lock.LOCKED_APART)
}


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course that requires nothing, locked where no index is."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    for name in lock.LAYERS:
        (tmp_path / name).write_text("# nothing yet\n")
    lock.make(tmp_path)
    return tmp_path


def test_the_locks_were_made_from_the_requirements_of_today() -> None:
    assert lock.outdated() == [], "run: python3 course.py lock"


def test_a_change_of_what_is_required_makes_the_locks_old(offline: Path) -> None:
    assert lock.outdated(offline) == []
    (offline / "requirements-dev.txt").write_text("# something, said differently\n")
    assert lock.outdated(offline) == []
    (offline / "requirements-dev.txt").write_text("ruff==0.17.6  # lints\n")
    assert lock.outdated(offline) == [lock.lock_of(Path(name)).name for name in lock.LAYERS]


def test_requirements_that_cannot_be_locked_leave_the_locks_as_they_are(offline: Path) -> None:
    before = lock.lock_of(offline / "requirements.txt").read_bytes()
    (offline / "requirements.txt").write_text("no-such-package==1.0  # not there\n")
    with pytest.raises(CourseError, match="no-such-package"):
        lock.make(offline)
    assert lock.lock_of(offline / "requirements.txt").read_bytes() == before


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_every_locked_package_has_hashes_and_none_names_an_index_or_a_folder(text: str) -> None:
    packages = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert not re.search(r"://|^--(?!hash)|-c ", text, re.MULTILINE)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_torch_and_its_cuda_packages_are_in_no_lock(text: str) -> None:
    assert [name for name in lock.names(text) if lock.WITH_TORCH.fullmatch(name)] == []


def test_a_package_has_one_version_in_all_locks_for_one_system() -> None:
    together = [TEXTS[name] for name in lock.LAYERS]
    lines = {line for text in together for line in re.findall(r"^([\w.-]+==\S+)", text, re.MULTILINE)}
    names = [line.partition("==")[0] for line in lines]
    twice = {name for name in names if names.count(name) > 1}
    split = {name for text in together for name in lock.names(text) if lock.names(text).count(name) > 1}
    assert twice <= split  # several versions only where markers keep them apart


def test_what_is_installed_fits_together() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, encoding="utf-8", errors="replace"
    )
    assert done.returncode == 0, done.stdout


def test_what_lives_apart_is_locked_alone_and_told_when_it_is_old(offline: Path) -> None:
    apart = offline / lock.LOCKED_APART[0]
    apart.parent.mkdir(parents=True)
    apart.write_text("# nothing yet\n")
    assert lock.outdated(offline) == ["deploy/hub/requirements.lock"]
    lock.make(offline)
    assert lock.outdated(offline) == []
