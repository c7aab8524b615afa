"""Two ways by which a model's pinned files come: a folder, and an address. `wheels` is the third.

Each brings the same bytes. A file grows in one place, whatever brings it, so what one way has begun another goes on
with; whoever asked checks the whole of it at the end.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from helpers.errors import DamagedFile, ModelUnavailable, NetworkNeeded
from helpers.records import ModelFile
from helpers.settings import certificate_troubles, is_loopback

if TYPE_CHECKING:
    import httpx2

#: An address that says nothing for so long is taken as one that cannot be reached.
REACH_SECONDS = 3.0
BLOCK = 1 << 20

#: What is told, again and again, how many bytes of what is wanted are here.
Seen = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that is to come: `path` is its place below a mirror, `part` the place here where it grows."""

    file: ModelFile
    path: str
    part: Path

    @property
    def size(self) -> int:
        """The bytes of what is here, right or wrong."""
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def here(self) -> int:
        """The bytes that are here; none of a part that is longer than the file, since that was another file."""
        return self.size if self.size <= self.file.bytes else 0

    def take(self, blocks: Iterable[bytes], start: int, tell: Callable[[], object]) -> None:
        """Writes what comes from byte `start` of the file on."""
        with self.part.open("r+b" if self.part.exists() else "wb") as part:
            part.truncate(start)
            part.seek(start)
            for block in blocks:
                part.write(block)
                part.flush()
                tell()
                if part.tell() > self.file.bytes:
                    return  # another file, whose rest would only fill the disk


class Transport(ABC):
    """One way by which files come. Its failures are a `ModelUnavailable` whose message is half a sentence."""

    #: What a sentence calls it.
    name: str

    @abstractmethod
    def require(self, wanted: Sequence[Wanted]) -> None:
        """Refuses, within seconds, where nothing can come this way."""

    @abstractmethod
    def bring(self, wanted: Sequence[Wanted], seen: Seen) -> None:
        """Makes every part as long as its file, from where it stands."""

    def room(self) -> int:
        """The bytes of disk that this way takes beside the files themselves."""
        return 0


class Folder(Transport):
    """A folder of this machine, of the network, or on a USB stick."""

    def __init__(self, root: Path, name: str, *, by_path: bool = True) -> None:
        self.root, self.name, self._by_path = root, name, by_path

    def require(self, wanted: Sequence[Wanted]) -> None:
        if not self.root.is_dir():
            raise ModelUnavailable(f"{self.name} is not there")
        for item in wanted:
            if not self._place(item).is_file():
                raise ModelUnavailable(f"{self.name} has no {item.path}")

    def bring(self, wanted: Sequence[Wanted], seen: Seen) -> None:
        for item in wanted:
            item.take(self._blocks(item, item.here), item.here, lambda: seen(here(wanted)))

    def _blocks(self, item: Wanted, start: int) -> Iterator[bytes]:
        try:
            with self._place(item).open("rb") as source:
                source.seek(start)
                while block := source.read(BLOCK):
                    yield block
        except OSError as error:  # of the reading: a stick that was pulled out, a file that is somebody else's
            raise ModelUnavailable(f"{self.name} cannot be read ({error.strerror})") from error

    def _place(self, item: Wanted) -> Path:
        return self.root / (item.path if self._by_path else item.file.name)


class Web(Transport):
    """An address below which the files lie: a mirror in the class, or one revision on a hub."""

    def __init__(self, address: str, name: str, *, by_path: bool = True) -> None:
        self.address, self.name, self._by_path = address.rstrip("/"), name, by_path

    def require(self, wanted: Sequence[Wanted]) -> None:
        said: list[ModelUnavailable | None] = []

        def ask() -> None:
            try:
                with self._client() as client:
                    status = client.head(self._url(wanted[0])).status_code
                refused = ModelUnavailable(f"{self.name} answers {status} for {wanted[0].path}")
                said.append(refused if status >= 400 else None)
            except ModelUnavailable as error:
                said.append(error)

        # In a thread: to resolve a name may alone take longer than we wait, and cannot be interrupted.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(REACH_SECONDS)
        silent = NetworkNeeded(f"{self.name} said nothing within {REACH_SECONDS:.0f} seconds")
        if failure := said[0] if said else silent:
            raise failure

    def bring(self, wanted: Sequence[Wanted], seen: Seen) -> None:
        for item in wanted:
            while item.size < item.file.bytes:
                before, failure = item.size, NetworkNeeded(f"{self.name} sends no more of {item.path}")
                try:
                    with self._client() as client:
                        self._stream(client, item, lambda: seen(here(wanted)))
                except NetworkNeeded as error:
                    failure = error
                if item.size <= before:  # a stream that breaks off is taken up again as long as that brings more
                    raise failure

    def _stream(self, client: httpx2.Client, item: Wanted, tell: Callable[[], object]) -> None:
        asked = {"Accept-Encoding": "identity", **({"Range": f"bytes={item.here}-"} if item.here else {})}
        with client.stream("GET", self._url(item), headers=asked) as answer:
            if answer.status_code not in (200, 206):
                raise NetworkNeeded(f"{self.name} answers {answer.status_code} for {item.path}")
            start = item.here if answer.status_code == 206 else 0  # a plain server sends the whole file
            length = answer.headers.get("Content-Length", "")
            if length.isdecimal() and start + int(length) != item.file.bytes:
                raise DamagedFile(f"{self.name} has another {item.path}, not of {item.file.bytes:,} bytes")
            item.take(answer.iter_raw(), start, tell)

    def _url(self, item: Wanted) -> str:
        return f"{self.address}/{item.path if self._by_path else item.file.name}"

    @contextmanager
    def _client(self) -> Iterator[httpx2.Client]:
        """A client for this address; what goes wrong with it, or while it is used, is half a sentence."""
        import httpx2

        try:
            address = urlsplit(self.address)
            own = is_loopback(address.hostname or "")
            for trouble in certificate_troubles() if address.scheme == "https" and not own else ():
                raise ModelUnavailable(f"{self.name} cannot be asked: {trouble.rstrip('.')}")
            # No call to this machine goes through a proxy.
            with httpx2.Client(
                timeout=httpx2.Timeout(20, connect=REACH_SECONDS), follow_redirects=True, trust_env=not own
            ) as client:
                yield client
        except httpx2.HTTPError as error:
            raise NetworkNeeded(f"{self.name} cannot be reached, or broke off ({type(error).__name__})") from error
        except (ImportError, ValueError, httpx2.InvalidURL) as error:
            raise ModelUnavailable(
                f"{self.name} cannot be asked: its address, or that of the proxy to it, cannot be read"
            ) from error


def here(wanted: Sequence[Wanted]) -> int:
    """The bytes of all these files that are here."""
    return sum(item.here for item in wanted)
