"""The entry point: what it installs, when it does so again, and how it ends when something is in the way."""

from __future__ import annotations

import argparse
import ast
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import course

FILE = Path(course.__file__)
REQUIREMENTS = "torch==2.13.0  # tensors\nplatformdirs==4.14.7\n"
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no polite signal for a child alone")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone in a folder with a space in its name, with an environment that looks made."""
    root = tmp_path / "my course"
    packages = root / ".venv" / "packages"
    packages.mkdir(parents=True)
    (root / "requirements.txt").write_text(REQUIREMENTS)
    (root / "requirements-dev.txt").write_text("ruff==0.17.6\n")
    (root / "requirements-engines.txt").write_text("openvino==2026.4.1\n")
    monkeypatch.setattr(course, "ROOT", root)
    monkeypatch.setattr(course, "VENV", root / ".venv")
    monkeypatch.setattr(course, "LOG", root / "build" / "install.log")
    return root


@pytest.fixture
def main() -> Iterator[Callable[..., int]]:
    """The command line, without leaving its signal handler behind."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda *arguments: course.main(list(arguments))
    signal.signal(signal.SIGTERM, before)


class Pip:
    """Stands in for pip: refuses what `refuse` says, "installs" torch otherwise, and remembers what was asked."""

    def __init__(self, packages: Path, refuse: Callable[[list[str]], str] = lambda _: "") -> None:
        self.packages, self.refuse, self.asked = packages, refuse, []  # type: ignore[var-annotated]

    def __call__(self, command: list[Any], what: str) -> tuple[int, str]:
        self.asked.append([str(part) for part in command])
        error = self.refuse(self.asked[-1])
        torch = [part for part in self.asked[-1] if part.startswith("torch==")]
        if torch and not error:
            (self.packages / f"torch-{torch[0][7:]}.dist-info").mkdir()
            (self.packages / f"torch-{torch[0][7:]}.dist-info" / "RECORD").write_text("INSTALLER")
        return (1, error) if error else (0, "")


def found(clone: Path) -> dict[str, Any]:
    return {"version": "3.11.7", "packages": clone / ".venv" / "packages"}


# An old Python, and only the standard library


@pytest.mark.parametrize("version", [(3, 10, 12), (3, 7, 0), (2, 7, 18)])
def test_an_old_python_gets_one_sentence(version: tuple[int, ...]) -> None:
    sentence = course.old_python(version)
    assert f"Python {version[0]}.{version[1]}:" in sentence
    assert "3.11" in sentence


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 2), (4, 0, 0)])
def test_a_new_python_gets_none(version: tuple[int, ...]) -> None:
    assert course.old_python(version) == ""


def test_an_old_python_stops_before_anything_is_made(
    main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(course, "prepare", lambda **_: pytest.fail("went on"))
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert main("lab") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_old_python_can_read_the_file() -> None:
    ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_only_the_standard_library_is_imported() -> None:
    imports = [node for node in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))) if isinstance(node, ast.Import)]
    assert {alias.name for node in imports for alias in node.names} <= sys.stdlib_module_names


# Which torch


def test_without_a_gpu_a_cpu_build_comes_first() -> None:
    configured, pytorch, default = course.torch_plans(REQUIREMENTS, "Linux", nvidia=False)
    assert configured[0] == pytorch[0] == "torch==2.13.0+cpu"
    assert not any("index" in part for part in configured)
    assert f"--index-url={course.CPU_INDEX}" in pytorch
    assert {"--timeout=10", "--retries=0"} <= set(pytorch)
    assert default == ["torch==2.13.0"]


@pytest.mark.parametrize(("system", "nvidia"), [("Linux", True), ("Darwin", False), ("Windows", False)])
def test_elsewhere_the_default_build_is_taken(system: str, nvidia: bool) -> None:
    assert course.torch_plans(REQUIREMENTS, system, nvidia) == [["torch==2.13.0"]]


@pytest.mark.parametrize(
    ("offered", "tries", "expected"),
    [("configured", 1, "2.13.0+cpu"), ("index-url", 2, "2.13.0+cpu"), ("default", 3, "2.13.0")],
)
def test_torch_is_tried_in_order_and_then_pinned(
    offered: str, tries: int, expected: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "has_nvidia", lambda: False)
    monkeypatch.setattr(course.platform, "system", lambda: "Linux")
    order = ["configured", "index-url", "default"]
    pip = Pip(clone / ".venv" / "packages", lambda _: "No matching distribution" if order.pop(0) != offered else "")
    course.install_torch(pip.packages, pip)
    assert len(pip.asked) == tries
    assert (clone / ".venv" / "torch.txt").read_text() == f"torch=={expected}\n"


def test_the_pin_holds_for_later_installs_in_a_folder_with_a_space(clone: Path) -> None:
    course.install_torch(clone / ".venv" / "packages", Pip(clone / ".venv" / "packages"))
    settings = (clone / ".venv" / ("pip.ini" if os.name == "nt" else "pip.conf")).read_text()
    assert "my%20course/.venv/torch.txt" in settings
    assert " " not in settings.partition("constraint = ")[2].strip()


def test_a_full_disk_ends_the_search_for_torch(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course.platform, "system", lambda: "Linux")
    pip = Pip(clone, lambda _: "OSError: [Errno 28] No space left on device")
    with pytest.raises(course.Stop, match="disk is full"):
        course.install_torch(clone, pip)
    assert len(pip.asked) == 1


# When to install


def test_requirements_are_installed_once(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(clone / ".venv" / "packages")
    monkeypatch.setattr(course, "run_logged", pip)
    monkeypatch.setattr(course, "install_torch", lambda _: None)
    for _ in range(2):
        course.install(found(clone), dev=False)
    assert len(pip.asked) == 1
    assert any(part.startswith("--constraint=") for part in pip.asked[0])


@pytest.mark.parametrize("change", ["requirements", "python", "dev", "engines"])
def test_a_change_installs_again(change: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(clone / ".venv" / "packages")
    monkeypatch.setattr(course, "run_logged", pip)
    monkeypatch.setattr(course, "install_torch", lambda _: None)
    course.install(found(clone), dev=False)
    if change == "requirements":
        (clone / "requirements.txt").write_text(REQUIREMENTS + "numpy==2.4.6\n")
    more = {change: True} if change in ("dev", "engines") else {}
    course.install(found(clone) | ({"version": "3.12.1"} if change == "python" else {}), **{"dev": False, **more})
    assert len(pip.asked) == 2


def test_engines_come_under_the_same_pin_of_torch_and_stay(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = Pip(clone / ".venv" / "packages")
    monkeypatch.setattr(course, "run_logged", pip)
    monkeypatch.setattr(course, "install_torch", lambda _: None)
    for engines in (True, True, False):
        course.install(found(clone), dev=False, engines=engines)
    assert len(pip.asked) == 1
    assert {f"--constraint={clone / '.venv' / 'torch.txt'}", str(clone / "requirements-engines.txt")} <= set(
        pip.asked[0]
    )
    assert "download of up to" in capsys.readouterr().out


def test_an_engine_that_fails_leaves_no_stamp(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "install_torch", lambda _: None)
    monkeypatch.setattr(course, "run_logged", Pip(clone / ".venv" / "packages"))
    course.install(found(clone), dev=False)
    monkeypatch.setattr(course, "run_logged", lambda *_: (1, "ERROR: No matching distribution found for openvino"))
    with pytest.raises(course.Stop, match="pinned version"):
        course.install(found(clone), dev=False, engines=True)
    assert course.is_installed(clone / "requirements.txt", "3.11.7")
    assert not course.is_installed(clone / "requirements-engines.txt", "3.11.7")


@pytest.mark.parametrize("accident", [KeyboardInterrupt, OSError(errno.ENOSPC, "full"), "failed"])
def test_what_did_not_end_well_is_not_stamped(accident: Any, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[Any], what: str) -> tuple[int, str]:
        if accident == "failed":
            return 1, "ERROR: it broke"
        raise accident

    course.stamp(clone / "requirements.txt").write_text("of an older set-up")
    monkeypatch.setattr(course, "run_logged", pip)
    monkeypatch.setattr(course, "install_torch", lambda _: None)
    with pytest.raises((KeyboardInterrupt, OSError, course.Stop)):
        course.install(found(clone), dev=False)
    assert not course.stamp(clone / "requirements.txt").exists()


def test_a_small_disk_is_told_before_the_download(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: argparse.Namespace(free=2**30))
    monkeypatch.setattr(course, "run_logged", lambda *_: pytest.fail("it downloaded"))
    with pytest.raises(course.Stop, match=r"3 GiB of disk, and 1\.0 GiB are free"):
        course.install(found(clone), dev=False)
    with pytest.raises(course.Stop, match=r"4\.3 GiB of disk"):
        course.install(found(clone), dev=False, engines=True)


def test_a_half_unpacked_package_is_seen_as_missing(clone: Path) -> None:
    packages = clone / ".venv" / "packages"
    for name, record in {"whole": "whole.py,,\nINSTALLER,,\n", "half": "half.py,,\n", "less": None}.items():
        (packages / f"{name}-1.0.dist-info").mkdir()
        if record:
            (packages / f"{name}-1.0.dist-info" / "RECORD").write_text(record)
    course.forget_half_installed(packages)
    assert [folder.name for folder in packages.iterdir()] == ["whole-1.0.dist-info"]


# What went wrong, in a sentence


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
        ("WARNING: Retrying ... NewConnectionError(...)\nERROR: No matching distribution", "could not be reached"),
        ("ERROR: No matching distribution found for xllamacpp==1", "does not offer a pinned version"),
        ("ERROR: something new", "something new"),
        ("", "pip gave no reason"),
    ],
)
def test_what_pip_says_becomes_a_sentence(output: str, sentence: str) -> None:
    assert sentence in course.meaning(output)


@pytest.mark.parametrize(
    ("accident", "status", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left"), 1, "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/course/.venv"), 1, "refused a step"),
        (KeyboardInterrupt(), 130, "the same command continues"),
        (course.Stop("No model."), 1, "No model."),
    ],
)
def test_every_accident_ends_in_a_sentence(
    accident: BaseException,
    status: int,
    sentence: str,
    main: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(course, "prepare", lambda **_: (_ for _ in ()).throw(accident))
    assert main("setup") == status
    assert sentence in capsys.readouterr().err


def test_a_model_that_cannot_be_fetched_stops_the_set_up(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "ensure_environment", lambda: found(clone))
    monkeypatch.setattr(course, "install", lambda *_: None)
    monkeypatch.setattr(course, "call", lambda command: 1)
    with pytest.raises(course.Stop, match="embedded model is not ready"):
        course.prepare()


@pytest.mark.parametrize(
    ("line", "headline"),
    [
        ("Collecting torch==2.13.0", "Collecting torch==2.13.0"),
        ("  Downloading https://x/y/numpy-2.4.6-cp311-cp311-linux.whl (16.3 MB)", "Downloading numpy-2.4.6 (16.3 MB)"),
        ("Processing /opt/my wheels/torch-2.13.0+cpu-cp311.whl", "Processing torch-2.13.0+cpu"),
        ("Installing collected packages: a, b, c", "Unpacking 3 packages"),
        ("Requirement already satisfied: torch", ""),
    ],
)
def test_a_line_of_pip_is_shortened(line: str, headline: str) -> None:
    assert course.headline(line) == headline


# For real: a clone elsewhere, a dead index, a broken environment, a kill


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone on which no index answers."""
    root = tmp_path_factory.mktemp("a real clone")
    shutil.copy(FILE, root)
    (root / "requirements.txt").write_text(REQUIREMENTS)
    return root


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    dead = "http://127.0.0.1:9"
    nothing = {name: "" for name in os.environ if name.upper().startswith("PIP_")}
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": dead, "PIP_RETRIES": "0", "HTTPS_PROXY": dead}
    environment = {**os.environ, **nothing, **pip, "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "course.py", *arguments],
        cwd=root,
        env={name: value for name, value in environment.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def test_no_network_ends_in_a_sentence(real: Path) -> None:
    child = start(real, "setup")
    _, errors = child.communicate(timeout=200)
    assert child.returncode == 1
    assert "could not be reached" in errors
    assert "Traceback" not in errors
    assert not list((real / ".venv").glob("*.installed"))


def test_a_broken_environment_is_repaired(real: Path) -> None:
    python = real / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python.parent.mkdir(parents=True, exist_ok=True)
    python.unlink(missing_ok=True)
    printed, errors = start(real, "setup").communicate(timeout=200)
    assert "Repairing .venv: done" in printed
    assert "could not be reached" in errors
    assert python.exists()


@POSIX
def test_a_kill_ends_the_children_and_says_so(real: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    shutil.copytree(real, root, ignore=shutil.ignore_patterns(".venv"))
    child = start(root, "setup")
    assert child.stdout is not None
    assert "Making .venv" in child.stdout.readline()
    child.terminate()
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "the same command continues" in errors


def test_the_doctor_answers_before_the_set_up(real: Path) -> None:
    printed, _ = start(real, "doctor", "--json").communicate(timeout=60)
    assert {"python", "cores", "free_disk_gib", "environment"} <= set(json.loads(printed))


# The commands


def test_every_step_of_the_proof_runs_and_one_failure_fails_it(
    main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses = iter([1, 0, 0, 0, 0])
    asked: list[dict[str, bool]] = []
    monkeypatch.setattr(course.platform, "system", lambda: "Linux")
    monkeypatch.setattr(course, "prepare", lambda **what: asked.append(what) or Path("python"))
    monkeypatch.setattr(course, "call", lambda command, **more: next(statuses))
    assert main("test") == 1
    assert asked == [{"dev": True, "engines": True}]
    summary = capsys.readouterr().out.partition("summary")[2]
    assert summary.count("passed") == 4
    assert "FAILED" in summary


def test_notebooks_are_tested_without_a_network_and_without_bars() -> None:
    name, command, more = course.test_steps(Path("python"))[-1]
    assert name == "notebooks"
    assert {"--nbval-lax", "--nbval-current-env", "notebooks"} <= set(command)
    assert more["HF_HUB_OFFLINE"] == more["TQDM_DISABLE"] == "1"


def test_lab_opens_on_loopback_and_keeps_its_token_off_the_command_line(
    clone: Path, main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))
    monkeypatch.setattr(course, "call", lambda command, **more: calls.append((command, more)) or 0)
    assert main("lab", "--no-browser") == 0
    command, more = calls[0]
    assert "--ServerApp.ip=127.0.0.1" in command
    assert "--ServerApp.open_browser=False" in command
    assert f"notebooks/00_start.ipynb?token={more['JUPYTER_TOKEN']}" in capsys.readouterr().out
    assert not any(more["JUPYTER_TOKEN"] in str(part) for part in command)


@pytest.mark.parametrize("command", ["lab", "setup"])
def test_the_engines_are_asked_for_by_name(
    command: str, clone: Path, main: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(course, "prepare", lambda engines: asked.append(engines) or Path("python"))
    monkeypatch.setattr(course, "call", lambda *_, **__: 0)
    assert [main(command, "--engines"), main(command)] == [0, 0]
    assert asked == [True, False]


def test_ctrl_c_is_how_lab_ends(clone: Path, main: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))
    monkeypatch.setattr(course, "call", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main("lab") == 0


def test_a_port_in_use_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert course.free_port(taken) > taken


def test_run_hands_its_arguments_on(main: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[Any]] = []
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))
    monkeypatch.setattr(course, "call", lambda command: calls.append(command) or 0)
    assert main("run", "01", "03", "--save") == 0
    assert calls == [[Path("python"), "-m", "helpers.course.execute", "01", "03", "--save"]]
