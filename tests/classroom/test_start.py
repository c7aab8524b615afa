from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.classroom import bounds
from helpers.classroom.start import link_models, renew


@pytest.fixture
def course(tmp_path: Path) -> Path:
    place = tmp_path / "source"
    (place / "notebooks").mkdir(parents=True)
    (place / "README.md").write_text("read me")
    (place / "notebooks" / "00.ipynb").write_text("first")
    (place / "secret.py").write_text("not for homes")
    return place


def test_a_first_start_brings_what_learners_read_and_nothing_else(course: Path, tmp_path: Path) -> None:
    assert renew(course, tmp_path / "home") == ["README.md", "notebooks/00.ipynb"]
    assert not (tmp_path / "home" / "secret.py").exists()


def test_a_learners_work_stays_and_what_they_left_alone_is_renewed(course: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    renew(course, home)
    (home / "notebooks" / "00.ipynb").write_text("my answer")
    for name in ("README.md", "notebooks/00.ipynb"):
        (course / name).write_text("newer")
    assert renew(course, home) == ["README.md"]
    assert (home / "notebooks" / "00.ipynb").read_text() == "my answer"


def test_a_file_that_was_there_before_the_course_is_the_learners(course: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "README.md").write_text("mine")
    renew(course, tmp_path / "home")
    assert (tmp_path / "home" / "README.md").read_text() == "mine"


def test_what_a_learner_deleted_comes_back(course: Path, tmp_path: Path) -> None:
    renew(course, tmp_path / "home")
    (tmp_path / "home" / "README.md").unlink()
    assert renew(course, tmp_path / "home") == ["README.md"]


def test_a_note_that_is_broken_costs_no_work(course: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    renew(course, home)
    (home / ".from-the-course.json").write_text("{")
    (home / "README.md").write_text("mine")
    renew(course, home)
    assert (home / "README.md").read_text() == "mine"


def test_shared_models_are_linked_and_ones_own_stay(tmp_path: Path) -> None:
    shared, cache = tmp_path / "shared", tmp_path / "cache"
    (shared / "folder").mkdir(parents=True)
    (shared / "folder" / "config.json").write_text("{}")
    (shared / "a.gguf").write_text("shared")
    cache.mkdir()
    (cache / "a.gguf").write_text("own")
    link_models(shared, cache)
    assert (cache / "folder" / "config.json").resolve() == shared / "folder" / "config.json"
    assert (cache / "a.gguf").read_text() == "own"


def test_bounds_are_written_where_a_system_of_either_version_reads_them(tmp_path: Path) -> None:
    (tmp_path / "one" / "memory").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "cgroup.controllers").touch()
    (old,) = bounds.group("anna", memory_gib=4, cores=1, root=tmp_path / "one")
    (new,) = bounds.group("anna", memory_gib=4, cores=0.5, root=tmp_path / "two")
    assert (old.parent / "memory.limit_in_bytes").read_text() == (new.parent / "memory.max").read_text() == str(2**32)
    assert (new.parent / "cpu.max").read_text() == "50000 100000"


def test_no_group_can_be_made_where_there_are_none(tmp_path: Path) -> None:
    assert bounds.group("anna", memory_gib=4, cores=1, root=tmp_path) == []


def test_a_closed_folder_above_makes_a_file_unreadable_to_others(tmp_path: Path) -> None:
    place = tmp_path / "closed"
    place.mkdir(mode=0o700)
    (place / "python").touch(0o644)
    assert not bounds.readable_by_all(place / "python")
    assert bounds.readable_by_all(Path(os.devnull))
