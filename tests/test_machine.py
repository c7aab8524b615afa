"""What this machine has, and the refusals that come before a crash."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from helpers import machine
from helpers.errors import InvalidInput, NotEnoughDisk, NotEnoughMemory
from helpers.machine import GIB


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group of 2 GiB and one and a half cores, inside an unlimited one."""
    inner = tmp_path / "pod" / "box"
    inner.mkdir(parents=True)
    (tmp_path / "membership").write_text("4:memory:/elsewhere\n0::/pod/box\n")
    (inner / "memory.max").write_text(f"{2 * GIB}\n")
    (inner / "memory.current").write_text(f"{GIB}\n")
    (inner / "memory.stat").write_text(f"anon 1\ninactive_file {GIB // 4}\n")
    (inner / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "pod" / "memory.max").write_text("max\n")
    (tmp_path / "pod" / "memory.current").write_text(f"{GIB}\n")
    (tmp_path / "pod" / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_MEMBERSHIP", tmp_path / "membership")
    return inner


def test_description_has_every_field_and_names_no_host_and_no_user() -> None:
    described = machine.describe()
    for private in filter(None, (os.environ.get("USER"), os.environ.get("HOSTNAME"))):
        assert len(private) < 5 or private not in str(described)
    assert described.cores >= 1
    assert all((described.processor, described.system, described.python))
    assert 0 < described.memory_gib <= psutil.virtual_memory().total / GIB


def test_free_memory_is_part_of_all_memory() -> None:
    assert 0 < machine.free_memory_gib() <= machine.memory_gib()


@pytest.mark.fault("set-up")
def test_a_memory_limit_counts_and_file_cache_in_it_is_free(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("M", (), {"total": 64 * GIB, "available": 60 * GIB}))
    assert (machine.memory_gib(), machine.free_memory_gib()) == (2.0, 1.25)


def test_a_cpu_quota_is_rounded_up_to_cores(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert machine.cores() == 2


def test_without_a_limit_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_MEMBERSHIP", tmp_path / "absent")
    assert (machine._cpu_quota(), machine._memory_limits()) == (math.inf, [])
    (tmp_path / "memory").mkdir()  # the old control groups say so by a huge number
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("1000")
    assert machine._memory_limits() == []


@pytest.mark.parametrize(("physical", "expected"), [(1, 1), (2, 1), (4, 3), (8, 7), (None, 7)])
def test_one_core_is_left_free(physical: int | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLM_THREADS", raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: physical)
    assert machine.threads() == expected


def test_the_variable_overrides_the_threads_and_has_to_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_THREADS", "5")
    assert machine.threads() == 5
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("SLM_THREADS", wrong)
        with pytest.raises(InvalidInput, match="SLM_THREADS"):
            machine.threads()


@pytest.mark.fault("set-up")
def test_memory_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory_gib", lambda: 1.5)
    machine.require_memory(int(1.4 * GIB), "Phi")
    with pytest.raises(NotEnoughMemory, match=r"Phi needs 7\.6 GiB .* 1\.5 GiB free"):
        machine.require_memory(int(7.6 * GIB), "Phi")


@pytest.mark.fault("set-up")
def test_disk_is_refused_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_disk_gib", lambda path: 0.01)
    machine.require_disk(1000, tmp_path, "a wheel")
    with pytest.raises(NotEnoughDisk, match=r"needs 2\.0 GiB .* 10 MiB free(.|\n)*SLM_HOME"):
        machine.require_disk(2 * GIB, tmp_path, "the model")


def test_disk_is_read_where_a_folder_will_be(tmp_path: Path) -> None:
    assert machine.free_disk_gib(tmp_path / "not" / "yet") == pytest.approx(machine.free_disk_gib(tmp_path), rel=0.05)


def test_gpus_come_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    for printed, expected in (("A, 80 GiB\nB, 24 GiB", "A, 80 GiB + B, 24 GiB"), (None, None)):
        monkeypatch.setattr(machine, "_output", lambda *_, printed=printed: printed)
        assert machine.accelerator() == expected


def test_a_missing_tool_is_no_output() -> None:
    assert machine._output("no-such-tool-anywhere") is None


def test_torch_gets_a_device_and_a_precision_it_knows() -> None:
    assert machine.device() in ("cpu", "cuda", "mps")
    assert machine.precision() in ("bf16", "fp16", "fp32")


def test_a_scratch_folder_is_gone_when_its_program_ends() -> None:
    program = "from helpers import machine; made = machine.scratch(); (made / 'a').write_text('b'); print(made)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).name.startswith("slm-course-")
    assert not Path(done.stdout.strip()).exists()
