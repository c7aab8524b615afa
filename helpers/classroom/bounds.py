"""What one person's processes may take together, held by Linux's control groups: memory, processor, their number.

Without them, or without the right to make one, a limit on the number of processes for each user remains.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PERIOD_MICROSECONDS = 100_000
MOST_PROCESSES = 512


def group(name: str, *, memory_gib: float, cores: float, root: Path = CGROUPS) -> list[Path]:
    """The files into which a process writes its number to be bound; none where this system lets us make no group.

    Version 2 has one folder for all (docs.kernel.org/admin-guide/cgroup-v2), version 1 one for each controller.
    """
    memory, quota = str(int(memory_gib * 1024**3)), int(cores * PERIOD_MICROSECONDS)
    if (root / "cgroup.controllers").exists():
        with suppress(OSError):
            for above in (root, root / "slm-class"):
                above.mkdir(exist_ok=True)
                (above / "cgroup.subtree_control").write_text("+memory +cpu +pids")
            limits = {"memory.max": memory, "cpu.max": f"{quota} {PERIOD_MICROSECONDS}"}
            return [_made(root / "slm-class" / name, limits | {"pids.max": str(MOST_PROCESSES)})]
        return []
    limits_of: Mapping[str, dict[str, str]] = {
        "memory": {"memory.limit_in_bytes": memory},
        "cpu": {"cpu.cfs_period_us": str(PERIOD_MICROSECONDS), "cpu.cfs_quota_us": str(quota)},
        "pids": {"pids.max": str(MOST_PROCESSES)},
    }
    found = []
    for controller, limits in limits_of.items():
        if (root / controller).is_dir():
            with suppress(OSError):
                found.append(_made(root / controller / "slm-class" / name, limits))
    return found


def _made(folder: Path, limits: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in limits.items():
        (folder / name).write_text(value)
    return folder / "cgroup.procs"


def become(uid: int, groups: list[Path]) -> None:
    """Makes this process, just forked, that person's: bound, without other groups, and unable to turn back."""
    import resource

    for file in groups:
        file.write_text(str(os.getpid()))
    resource.setrlimit(resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    os.umask(0o077)


def readable_by_all(path: Path) -> bool:
    """Whether another user could run or read what lies there: each folder above it lets them pass."""
    there = path.resolve()
    try:
        return bool(there.stat().st_mode & 0o004) and all(above.stat().st_mode & 0o001 for above in there.parents)
    except OSError:
        return False
