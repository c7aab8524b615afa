"""Files that are made once: verified, locked against a second maker, never half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from helpers.errors import CourseError, DamagedFile, ModelUnavailable, NotEnoughDisk
from helpers.machine import require_disk

#: Longer than the slowest download or conversion, shorter than a learner's patience.
LOCK_SECONDS = 1800
#: What a system answers that keeps no locks on that disk.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
#: The coarsest tick in which a file system keeps times of change: FAT's, on USB sticks.
CLOCK_SECONDS = 2


def home() -> Path:
    """The folder that holds models: the variable SLM_HOME, else the user's cache folder for this course."""
    import platformdirs

    chosen = os.environ.get("SLM_HOME")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("slm-course", appauthor=False)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_file_with(path: Path, digest: str, size: int) -> bool:
    """Whether `path` is a whole file of that size and SHA-256.

    A gigabyte takes seconds to hash, so a file that was found right is not hashed again while its size and its time of
    change stay what they were; a note beside it remembers them.
    """
    # The size first: it is free, and it already tells a file that was cut short.
    if not path.is_file() or (found := path.stat()).st_size != size:
        return False
    note, state = path.with_name(f".{path.name}.checked"), f"{digest} {size} {found.st_mtime_ns}"
    with suppress(OSError):
        if note.read_text(encoding="utf-8") == state:
            return True
    if sha256(path) != digest:
        return False
    # A file so young could change once more within one tick of the clock, and its time would not tell.
    if time.time() - found.st_mtime > CLOCK_SECONDS:
        with suppress(OSError):
            note.write_text(state, encoding="utf-8")
    return True


def remove(path: Path) -> None:
    """Removes a file or a folder with all it holds; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A place beside `target`: the file or folder that the block writes there takes its place, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        if target.is_dir() or part.is_dir():  # which no system puts in place of another
            remove(target)
        os.replace(part, target)
    finally:
        with suppress(OSError):
            remove(part)


@contextmanager
def plain_disk_errors(path: Path, what: str) -> Iterator[None]:
    """Turns the operating system's refusals to write `what` under `path` into the course's sentences."""
    try:
        yield
    except CourseError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotEnoughDisk(
                f"The disk became full while writing {what}; nothing half-written was kept.",
                "Free some space, or set SLM_HOME to a folder on another disk, and run again.",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise ModelUnavailable(
                f"The folder {path} cannot be written to, so {what} has no place there.",
                "Set the environment variable SLM_HOME to a folder that you can write to, and run again.",
            ) from error
        raise


def make_once(
    target: Path, make: Callable[[Path], None], good: Callable[[Path], bool], *, size: int, what: str
) -> Path:
    """`target`, made by `make(temporary_path)` unless it is already there and `good`.

    Two processes that ask at once make it once: the second waits for the first. What is there but not good is made
    again. `size` in bytes is checked against the free disk before anything is written.
    """
    if good(target):  # before any lock, so that a read-only folder with good files works
        return target
    with plain_disk_errors(target.parent, what), alone(target, what):
        if not good(target):
            _make(target, make, good, size, what)
    return target


@contextmanager
def alone(target: Path, what: str) -> Iterator[None]:
    """Only one process at a time is inside for `target`; the others say so and wait for it.

    The lock is the operating system's and ends with the process that holds it: a file left behind delays nobody.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # On a disk without locks filelock would write a mark instead, which a killed process leaves for good.
    lock = FileLock(target.with_name(f"{target.name}.lock"), fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(f"Another process is making {what}: waiting until it has.", flush=True)
            lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise ModelUnavailable(
            f"Another process has been making {what} for {LOCK_SECONDS // 60} minutes.",
            "End that process, or restart this machine, and run again.",
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ModelUnavailable(
            f"The folder {target.parent} lies on a disk without file locks, as some network drives are, so two "
            f"programs at once could spoil {what}.",
            "Set the environment variable SLM_HOME to a folder on this machine's own disk, and run again.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _make(target: Path, make: Callable[[Path], None], good: Callable[[Path], bool], size: int, what: str) -> None:
    for left_behind in target.parent.glob(f".{target.name}.*.part"):
        remove(left_behind)  # by a process that was killed: we hold the lock, so nobody is writing it
    require_disk(size, target.parent, what)
    with written_whole(target) as part:
        make(part)
        if not good(part):
            raise DamagedFile(f"What was made of {what} is not what its hash promises.", "Run again to make it anew.")
