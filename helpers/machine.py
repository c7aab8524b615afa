"""What this machine has, computed when asked: cores, memory, disk, accelerator, and how the course uses them.

A container or a Codespace is given less than its host has. Cores come from the scheduler's affinity and the control
group's quota, memory from the control group's limit, so that a limit is met as a sentence and not as a killed kernel.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from helpers.errors import InvalidInput, NotEnoughDisk, NotEnoughMemory
from helpers.records import Machine

GIB = 1024**3
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_SCRATCH: list[tempfile.TemporaryDirectory[str]] = []


def describe() -> Machine:
    """This machine, in the words that stand beside a measured number."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=processor(),
        cores=cores(),
        memory_gib=memory_gib(),
        accelerator=accelerator(),
        python=platform.python_version(),
    )


def processor() -> str:
    """The processor's name as its maker writes it; the architecture where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def accelerator() -> str | None:
    """The GPU that torch could use, by name; None without one. Asks the driver, imports nothing."""
    names = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    if names:
        return " + ".join(line.strip() for line in names.splitlines())
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "Apple GPU (Metal)"
    return None


def cores() -> int:
    """The cores that this process may use, which in a container can be fewer than the machine has."""
    # sched_getaffinity is not on macOS and Windows.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _cpu_quota())))


def threads() -> int:
    """How many threads an engine computes with: one fewer than there are cores, at least one.

    llama.cpp's threads spin while they wait for each other: with as many threads as cores, a second busy process
    slows decoding by a factor of fifty. Hyper-threads share the arithmetic units, so only physical cores count.
    The environment variable SLM_THREADS overrides this.
    """
    chosen = os.environ.get("SLM_THREADS", "").strip()
    if not chosen:
        return max(1, min(cores(), psutil.cpu_count(logical=False) or cores()) - 1)
    if not (chosen.isdecimal() and int(chosen) >= 1):
        raise InvalidInput(f"SLM_THREADS is {chosen!r}, which is no number of threads.", "Set it to 1 or more.")
    return int(chosen)


def memory_gib() -> float:
    """The memory that this process may use, free or not."""
    limit = min((limit for limit, _ in _memory_limits()), default=math.inf)
    return float(min(psutil.virtual_memory().total, limit)) / GIB


def free_memory_gib() -> float:
    """The memory that could be taken now without swapping."""
    room = min((limit - used for limit, used in _memory_limits()), default=math.inf)
    return float(max(0, min(psutil.virtual_memory().available, room))) / GIB


def energy_joules(counters: Path = Path("/sys/class/powercap")) -> float | None:
    """What the processor's packages have used since their counters last began anew; None where none may be read.

    Intel's and AMD's RAPL, as Linux shows it. Virtual machines seldom do, and an ordinary user may be kept out.
    """
    files = sorted(counters.glob("intel-rapl:[0-9]/energy_uj"))
    try:
        return sum(int(file.read_text()) for file in files) / 1e6 if files else None
    except (OSError, ValueError):
        return None


def free_disk_gib(path: Path | str) -> float:
    """The free disk where `path` is, or will be."""
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free / GIB


def scratch() -> Path:
    """A new folder for files that are needed no longer than this program or kernel runs; removed at its end."""
    folder = tempfile.TemporaryDirectory(prefix="slm-course-", ignore_cleanup_errors=True)
    _SCRATCH.append(folder)  # or it would be removed as soon as nobody holds it
    return Path(folder.name)


def require_memory(size: int, what: str) -> None:
    """Refuses, before anything is loaded, what needs more than the free memory; `size` in bytes."""
    free = free_memory_gib()
    if size > free * GIB:
        raise NotEnoughMemory(
            f"{what} needs {_gib(size)} of memory, and this machine has {_gib(free * GIB)} free.",
            "Shut down other notebooks' kernels and programs, or open a smaller model or one in fewer bits.",
        )


def require_disk(size: int, path: Path | str, what: str) -> None:
    """Refuses, before anything is written, what needs more than the free disk at `path`; `size` in bytes."""
    free = free_disk_gib(path)
    if size > free * GIB:
        raise NotEnoughDisk(
            f"{what} needs {_gib(size)} of disk, and there are {_gib(free * GIB)} free at {path}.",
            "Free some space there, or set SLM_HOME to a folder on a larger disk, and run again.",
        )


def device() -> str:
    """Where torch computes: 'cuda', 'mps' or 'cpu'. A GPU that it cannot compute on is left aside, with a warning.

    So is one that the environment variable SLM_DEVICE leaves out by saying "cpu", or `on_processor`.
    """
    import torch

    if _chosen_device() == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        trouble = gpu_trouble()
        if trouble is None:
            # Newer GPUs would get cuDNN's attention, which is planned anew for each length: that is, for each token.
            torch.backends.cuda.enable_cudnn_sdp(False)
            return "cuda"
        warnings.warn(f"{trouble} The processor computes instead.", RuntimeWarning, stacklevel=2)
    return "mps" if torch.backends.mps.is_available() else "cpu"


class on_processor:  # noqa: N801 - used as a function is, like torch.set_grad_enabled
    """From here on torch computes on the processor, here and in programs that are started; in a `with`, until its end.

    For what is about the processor: a rate that memory allows, engines that are compared on it. Models that are open
    stay where they are.
    """

    def __init__(self) -> None:
        self._before = os.environ.get("SLM_DEVICE")
        os.environ["SLM_DEVICE"] = "cpu"

    def __enter__(self) -> None:
        """Nothing more is to be done."""

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            os.environ.pop("SLM_DEVICE", None)
        else:
            os.environ["SLM_DEVICE"] = self._before


def _chosen_device() -> str:
    chosen = os.environ.get("SLM_DEVICE", "").strip().lower()
    if chosen not in ("", "auto", "cpu"):
        raise InvalidInput(f"SLM_DEVICE is {chosen!r}, which is no choice here.", 'Set it to "cpu", or to "auto".')
    return chosen


def finish(place: Any) -> None:
    """Waits until the torch device `place` has computed what it was given; a processor always has.

    A GPU takes orders and answers at once, so a clock that does not wait times the ordering.
    """
    import torch

    if torch.device(place).type in ("cuda", "mps"):
        torch.accelerator.synchronize()


def gpu_trouble() -> str | None:
    """Why torch cannot compute on the GPU that it sees, in a sentence; None where it can, or sees none.

    A torch is built for the NVIDIA GPUs of some years. On an older one it finds a device, and each computation fails.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own words for the same
            name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    except RuntimeError as error:
        return f"The GPU does not answer torch: {str(error).strip().splitlines()[0]}."
    built = torch.cuda.get_arch_list()
    if torch.version.cuda is None or not built or any(_runs_on(capability, code) for code in built):
        return None
    return (
        f"torch {torch.__version__} cannot compute on {name}: that GPU has compute capability "
        f"{capability[0]}.{capability[1]}, and this torch is built for {', '.join(built)}."
    )


def _runs_on(capability: tuple[int, int], code: str) -> bool:
    """Whether what torch was built for runs on a GPU of that compute capability (CUDA C++ programming guide, 5.8.2).

    Binary code (sm_86) runs on the same major version from its minor version up, intermediate code (compute_90) on
    all later GPUs; a letter at the end means this one alone.

    >>> _runs_on((8, 9), "sm_86"), _runs_on((7, 0), "sm_75"), _runs_on((12, 0), "compute_90")
    (True, False, True)
    """
    kind, _, version = code.partition("_")
    number = version.rstrip("abcdefghijklmnopqrstuvwxyz")
    built = (int(number[:-1]), int(number[-1]))
    if number != version:
        return capability == built
    return capability >= built and (kind == "compute" or capability[0] == built[0])


def require_gpu_memory(size: int, what: str) -> None:
    """Refuses, before a model is put on an NVIDIA GPU, what needs more than its free memory; `size` in bytes."""
    if device() != "cuda":
        return  # the machine's own memory, which Apple's GPU shares, is asked by require_memory
    import torch

    torch.cuda.empty_cache()  # what closed models have left, torch keeps for itself and the driver counts as taken
    free = torch.cuda.mem_get_info()[0]
    if size > free:
        raise NotEnoughMemory(
            f"{what} needs {_gib(size)} of the GPU's memory, and {torch.cuda.get_device_name()} has {_gib(free)} free.",
            "Shut down other notebooks' kernels, open a smaller model, or compute on the processor: set "
            "CUDA_VISIBLE_DEVICES=-1 before Python starts.",
        )


def placed(model: Any, what: str) -> Any:
    """The torch model on the device that computes here; refused where the GPU has no room for its weights."""
    require_gpu_memory(sum(weights.nbytes for weights in model.parameters()), what)
    return model.to(device())


def precision() -> str:
    """The precision in which torch computes best here: 'bf16', 'fp16' or 'fp32'.

    Half precision halves the memory. A processor without wide vectors emulates bf16 slowly, so it keeps fp32.
    """
    import torch

    if device() == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device() == "mps":
        return "fp16"
    # "NO AVX" and "DEFAULT" are torch's words for vectors that it does not use.
    return "bf16" if "AVX512" in torch.backends.cpu.get_cpu_capability() else "fp32"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 1024**2:.0f} MiB"


def _output(*command: str) -> str | None:
    """What a system tool prints; None where there is no such tool or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cgroup_folders() -> list[Path]:
    """The version 2 control groups that hold this process, innermost first; none on other systems."""
    with suppress(OSError):
        for line in _MEMBERSHIP.read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                inner = _CGROUPS / line[4:]
                return [folder for folder in (inner, *inner.parents) if folder.is_relative_to(_CGROUPS)]
    return []


def _numbers(file: Path) -> list[float]:
    """The numbers of a control file, 'max' as infinity; empty where the file is absent."""
    try:
        return [math.inf if word == "max" else float(word) for word in file.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):
        return []


def _cpu_quota() -> float:
    """Cores' worth of time that the control groups allow; infinity without a quota."""
    quotas = [_numbers(folder / "cpu.max") for folder in _cgroup_folders()]
    return min((quota[0] / quota[1] for quota in quotas if len(quota) == 2), default=math.inf)


def _memory_limits() -> list[tuple[float, float]]:
    """(limit, used) in bytes of each control group that has a limit. Version 1 is read at its root only."""
    pairs = [(folder / "memory.max", folder / "memory.current", folder / "memory.stat") for folder in _cgroup_folders()]
    old = _CGROUPS / "memory"
    pairs.append((old / "memory.limit_in_bytes", old / "memory.usage_in_bytes", old / "memory.stat"))
    found = []
    for limit_file, used_file, stat_file in pairs:
        limit, used = _numbers(limit_file), _numbers(used_file)
        if limit and used and limit[0] < 2**60:  # version 1 writes a huge number for "no limit"
            # Pages of files that were read count as used, but the system drops them when asked for memory.
            found.append((limit[0], used[0] - _reclaimable(stat_file)))
    return found


def _reclaimable(stat_file: Path) -> float:
    with suppress(OSError, ValueError):
        for line in stat_file.read_text(encoding="utf-8").splitlines():
            name, _, number = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return float(number)
    return 0.0
