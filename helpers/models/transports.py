"""Two ways by which a model's pinned files come: a folder, and an address. `wheels` is the third.

Each brings the same bytes. A file grows in one place, whatever brings it, so what one way has begun another goes on
with; whoever asked checks the whole of it at the end.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from helpers.errors import DamagedFile, ModelUnavailable, NetworkNeeded
from helpers.records import ModelFile

if TYPE_CHECKING:
    import httpx

#: An address that says nothing for so long is taken as one that cannot be reached.
REACH_SECONDS = 3.0
#: How often a stream that breaks off is taken up again before the next way is tried.
ATTEMPTS = 3
BLOCK = 1 << 20
#: Variables that name a file or folder of certificates, for Python or for pip.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
LOOPBACK = ("localhost", "127.0.0.1", "::1")

#: What is told, again and again, how many bytes of what is wanted are here.
Seen = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that is to come: `path` is its place below a mirror, `part` the place here where it grows."""

    file: ModelFile
    path: str
    part: Path

    @property
    def here(self) -> int:
        """The bytes that are here; none of a part that is longer than the file, since that was another file."""
        size = self.part.stat().st_size if self.part.exists() else 0
        return size if size <= self.file.bytes else 0

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
    def refusal(self, wanted: Sequence[Wanted]) -> str | None:
        """Why nothing can come this way, decided within seconds; None where it looks as if it can."""

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

    def refusal(self, wanted: Sequence[Wanted]) -> str | None:
        if not self.root.is_dir():
            return f"{self.name} is not there"
        absent = [item.path for item in wanted if not self._place(item).is_file()]
        return f"{self.name} has no {absent[0]}" if absent else None

    def bring(self, wanted: Sequence[Wanted], seen: Seen) -> None:
        for item in wanted:
            with self._place(item).open("rb") as source:
                source.seek(item.here)
                blocks = iter(lambda: source.read(BLOCK), b"")
                item.take(blocks, item.here, lambda: seen(here(wanted)))

    def _place(self, item: Wanted) -> Path:
        return self.root / (item.path if self._by_path else item.file.name)


class Web(Transport):
    """An address below which the files lie: a mirror in the class, or one revision on a hub."""

    def __init__(self, address: str, name: str, *, by_path: bool = True) -> None:
        self.address, self.name, self._by_path = address.rstrip("/"), name, by_path

    def refusal(self, wanted: Sequence[Wanted]) -> str | None:
        said: list[str | None] = []

        def ask() -> None:
            import httpx

            try:
                with self._client() as client:
                    status = client.head(self._url(wanted[0])).status_code
                said.append(f"{self.name} answers {status} for {wanted[0].path}" if status >= 400 else None)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                said.append(f"{self.name} cannot be reached ({type(error).__name__})")

        require_certificates()
        # In a thread: to resolve a name may alone take longer than we wait, and cannot be interrupted.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(REACH_SECONDS)
        return said[0] if said else f"{self.name} did not answer within {REACH_SECONDS:.0f} seconds"

    def bring(self, wanted: Sequence[Wanted], seen: Seen) -> None:
        import httpx

        with self._client() as client:
            for item in wanted:
                for attempt in range(1, ATTEMPTS + 1):
                    try:
                        self._stream(client, item, lambda: seen(here(wanted)))
                        break
                    except httpx.HTTPError as error:
                        if attempt == ATTEMPTS:
                            raise NetworkNeeded(f"{self.name} broke off ({type(error).__name__})") from error
                        time.sleep(attempt)

    def _stream(self, client: httpx.Client, item: Wanted, tell: Callable[[], object]) -> None:
        asked = {"Accept-Encoding": "identity", **({"Range": f"bytes={item.here}-"} if item.here else {})}
        with client.stream("GET", self._url(item), headers=asked) as answer:
            if answer.status_code not in (200, 206):
                raise NetworkNeeded(f"{self.name} answers {answer.status_code} for {item.path}")
            start = item.here if answer.status_code == 206 else 0  # a plain server sends the whole file
            length = answer.headers.get("Content-Length", "")
            if length.isdecimal() and start + int(length) != item.file.bytes:
                raise DamagedFile(f"{self.name} has another {item.path}, not of {item.file.bytes:,} bytes")
            item.take(answer.iter_bytes(BLOCK), start, tell)

    def _url(self, item: Wanted) -> str:
        return f"{self.address}/{item.path if self._by_path else item.file.name}"

    def _client(self) -> httpx.Client:
        import httpx

        own = urlsplit(self.address).hostname in LOOPBACK  # no call to this machine goes through a proxy
        return httpx.Client(timeout=httpx.Timeout(20, connect=REACH_SECONDS), follow_redirects=True, trust_env=not own)


def here(wanted: Sequence[Wanted]) -> int:
    """The bytes of all these files that are here."""
    return sum(item.here for item in wanted)


def require_certificates() -> None:
    """Refuses, in a sentence, a variable that names certificates which are not there: nothing could be fetched."""
    for variable in CERTIFICATES:
        named = os.environ.get(variable)
        if named and not Path(named).exists():
            raise ModelUnavailable(
                f"the variable {variable} names {named}, which is not there, so no secure connection can be made",
                f"Correct {variable} or unset it, and run again.",
            )
