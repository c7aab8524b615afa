"""The process that a learner's function runs in: first it shuts itself off, then it answers calls.

Only the standard library. As root it takes mount and network namespaces of its own and then another user's number;
else a user namespace gives the same where the system allows one. Limits hold for its memory, its processor time, its
files and processes. A hook of Python's refuses files, sockets and programs besides; it is a second wall, and where the
system gives no first one, the only one.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

#: One below the class's people, so that it is nobody's.
GRADER_UID = 19_999
#: From linux/sched.h and linux/mount.h.
NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_NETWORK = 0x0002_0000, 0x0800_0000, 0x1000_0000, 0x4000_0000
PRIVATE, RECURSIVE = 1 << 18, 1 << 14
MEMORY_BYTES, FILE_BYTES, PROCESSOR_SECONDS, OPEN_FILES = 2 * 1024**3, 1_000_000, 60, 64
DEEPEST = 50
#: What Python tells its hooks of, and a function for an exercise never needs (docs.python.org/3/library/audit_events).
CLOSED_EVENTS = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.killpg",
    "pty.", "shutil.", "signal.pthread_kill", "urllib.", "ftplib.", "smtplib.",
)  # fmt: skip
#: What exercises import, loaded before the walls stand: behind them this Python may lie where nobody else may read.
LOADED = "bisect collections copy dataclasses decimal fractions functools heapq itertools math operator random re "
LOADED += "statistics string textwrap typing"


def packed(value: Any, depth: int = 0) -> Any:
    """A value as JSON that keeps tuples, infinities and keys that are no text; what else there is becomes its type."""
    if depth > DEEPEST:
        return ["?", "a nest"]
    if value is None or isinstance(value, (bool, int, str)):
        return value if not isinstance(value, int) or isinstance(value, bool) else ["i", str(int(value))]
    if isinstance(value, float):
        return ["f", float(value).hex() if math.isfinite(value) else repr(float(value))]
    if isinstance(value, (list, tuple)):
        kind = "t" if isinstance(value, tuple) else "l"
        return [kind, [packed(one, depth + 1) for one in value]]
    if isinstance(value, dict):
        return ["d", [[packed(key, depth + 1), packed(one, depth + 1)] for key, one in value.items()]]
    if hasattr(value, "tolist"):
        return packed(value.tolist(), depth + 1)
    return ["?", type(value).__name__]


def unpacked(value: Any) -> Any:
    """What `packed` packed; a type that has no form here comes back as an object that equals nothing."""
    if not isinstance(value, list):
        return value
    kind, held = value
    if kind == "i":
        return int(held)
    if kind == "f":
        return float.fromhex(held) if "0x" in held else float(held)
    if kind in ("l", "t"):
        found = [unpacked(one) for one in held]
        return tuple(found) if kind == "t" else found
    if kind == "d":
        return {unpacked(key): unpacked(one) for key, one in held}
    return type(str(held), (), {})()


def shut_off(folder: str, hide: list[str]) -> list[str]:
    """Builds the walls that this system allows; their names."""
    walls = []
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    uid, gid = (os.getuid(), os.getgid()) if hasattr(os, "getuid") else (0, 0)
    spaces = NEW_MOUNTS | NEW_NETWORK | NEW_IPC | (0 if root else NEW_USER)
    if libc is not None and libc.unshare(spaces) == 0:
        walls += ["no network"]
        if not root:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        libc.mount(b"none", b"/", None, RECURSIVE | PRIVATE, None)
        hidden = [
            libc.mount(b"none", place.encode(), b"tmpfs", 0, b"size=0,mode=0") for place in hide if Path(place).is_dir()
        ]
        walls += ["hidden folders"] if hidden and not any(hidden) else []
    if sys.platform != "win32":
        _limit()
        walls += ["limits"]
    if root:
        os.chown(folder, GRADER_UID, GRADER_UID)
        os.setgroups([])
        os.setgid(GRADER_UID)
        os.setuid(GRADER_UID)
        walls += ["another user"]
    return walls


def _limit() -> None:
    import resource

    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_CPU: PROCESSOR_SECONDS,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for name, value in limits.items():
        with suppress(OSError, ValueError):  # a system may hold it lower already
            resource.setrlimit(name, (value, value))


def close_python(folder: str, walls: list[str]) -> None:
    """Refuses, from now on and for good, what no exercise needs; C functions too where this is the only wall."""
    refused = CLOSED_EVENTS if "no network" in walls else (*CLOSED_EVENTS, "ctypes.")
    allowed = (
        folder,
        *{str(Path(place)) for place in (sys.prefix, sys.base_prefix, "/usr/lib", "/usr/share/zoneinfo")},
    )
    packages = tuple(f"{place}{os.sep}" for place in allowed)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            place, mode = arguments[0], arguments[1]
            if isinstance(place, (str, bytes, os.PathLike)):
                there = os.path.realpath(os.fsdecode(place))
                inside = there.startswith(f"{folder}{os.sep}")
                reads = mode is None or not set(str(mode)) & set("wax+")
                if not inside and not (reads and there.startswith(packages)) and there != os.devnull:
                    raise PermissionError("files are closed here")
        elif event.startswith(refused):
            raise PermissionError(f"{event.partition('.')[0]} is closed here")

    sys.addaudithook(hook)


def main() -> None:
    """Reads the source, shuts itself off, and answers each call with a line."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    first = json.loads(questions.readline())

    def tell(**what: Any) -> None:
        answers.write(json.dumps(what).encode() + b"\n")
        answers.flush()

    for name in LOADED.split():
        importlib.import_module(name)
    walls = shut_off(first["folder"], first["hide"])
    os.chdir(first["folder"])
    close_python(os.path.realpath(first["folder"]), walls)
    space: dict[str, Any] = {"__name__": "submission"}
    try:
        exec(compile(first["source"], "submission", "exec"), space)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is its answer
        tell(error=type(error).__name__, said=str(error)[:500])
        return
    tell(walls=walls)
    for line in questions:
        try:
            value = space[first["name"]](*(unpacked(one) for one in json.loads(line)["arguments"]))
            tell(value=packed(value))
        except BaseException as error:  # noqa: BLE001
            tell(error=type(error).__name__, said=str(error)[:500])


if __name__ == "__main__":
    main()
