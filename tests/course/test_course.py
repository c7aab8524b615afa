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
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import course
from helpers.course import trouble
from waiting import until

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
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-engines.lock"):
        (root / name).write_text("platformdirs==4.14.7 --hash=sha256:1d9f\n")
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
        self.packages, self.refuse, self.asked = packages, refuse, []

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


@pytest.mark.fault("set-up")
@pytest.mark.parametrize("version", [(3, 10, 12), (3, 7, 0), (2, 7, 18)])
def test_an_old_python_gets_one_sentence(version: tuple[int, ...]) -> None:
    sentence = course.old_python(version)
    assert f"Python {version[0]}.{version[1]}:" in sentence
    assert "3.11" in sentence


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 2), (4, 0, 0)])
def test_a_new_python_gets_none(version: tuple[int, ...]) -> None:
    assert course.old_python(version) == ""


@pytest.mark.fault("set-up")
def test_an_old_python_stops_before_anything_is_made(
    main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(course, "prepare", lambda **_: pytest.fail("went on"))
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert main("lab") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_old_python_can_read_the_file() -> None:
    ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize("file", [FILE, Path(trouble.__file__)], ids=lambda path: path.name)
def test_only_the_standard_library_is_imported(file: Path) -> None:
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert (names | modules) - {"helpers.course"} <= sys.stdlib_module_names


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


@pytest.mark.fault("set-up")
def test_a_full_disk_ends_the_search_for_torch(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course.platform, "system", lambda: "Linux")
    pip = Pip(clone, lambda _: "OSError: [Errno 28] No space left on device")
    with pytest.raises(course.Stop, match="disk is full"):
        course.install_torch(clone, pip)
    assert len(pip.asked) == 1


# When to install


@pytest.fixture
def pip(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    """pip's stand-in for a whole `install`, which then asks for no torch."""
    one = Pip(clone / ".venv" / "packages")
    monkeypatch.setattr(course, "run_logged", one)
    monkeypatch.setattr(course, "install_torch", lambda _: None)
    return one


def test_requirements_are_installed_once(clone: Path, pip: Pip) -> None:
    for _ in range(2):
        course.install(found(clone), dev=False)
    assert len(pip.asked) == 1


def test_exactly_what_the_lock_names_is_installed_each_file_by_its_hash(clone: Path, pip: Pip) -> None:
    course.install(found(clone), dev=True)
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(pip.asked[0])
    locks = [Path(part).name for part in pip.asked[0] if part.endswith(".lock")]
    assert locks == ["requirements.lock", "requirements-dev.lock"]


@pytest.mark.fault("set-up")
@pytest.mark.parametrize("change", ["lock", "python", "dev", "engines"])
def test_a_change_installs_again(change: str, clone: Path, pip: Pip) -> None:
    course.install(found(clone), dev=False)
    if change == "lock":
        (clone / "requirements.lock").write_text("numpy==2.4.6 --hash=sha256:77ab\n")
    more = {change: True} if change in ("dev", "engines") else {}
    course.install(found(clone) | ({"version": "3.12.1"} if change == "python" else {}), **{"dev": False, **more})
    assert len(pip.asked) == 2


def test_engines_are_installed_once_and_stay(clone: Path, pip: Pip, capsys: pytest.CaptureFixture[str]) -> None:
    for engines in (True, True, False):
        course.install(found(clone), dev=False, engines=engines)
    assert len(pip.asked) == 1
    assert str(clone / "requirements-engines.lock") in pip.asked[0]
    assert "download of up to" in capsys.readouterr().out


@pytest.mark.usefixtures("pip")
def test_an_engine_that_fails_leaves_no_stamp(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course.install(found(clone), dev=False)
    monkeypatch.setattr(course, "run_logged", lambda *_: (1, "ERROR: No matching distribution found for openvino"))
    with pytest.raises(course.Stop, match="pinned version"):
        course.install(found(clone), dev=False, engines=True)
    assert course.is_installed(clone / "requirements.lock", "3.11.7")
    assert not course.is_installed(clone / "requirements-engines.lock", "3.11.7")


@pytest.mark.fault("set-up")
@pytest.mark.parametrize("accident", [KeyboardInterrupt, OSError(errno.ENOSPC, "full"), "failed"])
def test_what_did_not_end_well_is_not_stamped(accident: Any, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[Any], what: str) -> tuple[int, str]:
        if accident == "failed":
            return 1, "ERROR: it broke"
        raise accident

    course.stamp(clone / "requirements.lock").write_text("of an older set-up")
    monkeypatch.setattr(course, "run_logged", pip)
    monkeypatch.setattr(course, "install_torch", lambda _: None)
    with pytest.raises((KeyboardInterrupt, OSError, course.Stop)):
        course.install(found(clone), dev=False)
    assert not course.stamp(clone / "requirements.lock").exists()


@pytest.mark.fault("set-up")
def test_a_small_disk_is_told_before_the_download(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: argparse.Namespace(free=2**30))
    monkeypatch.setattr(course, "run_logged", lambda *_: pytest.fail("it downloaded"))
    with pytest.raises(course.Stop, match=r"3 GiB of disk, and 1\.0 GiB are free"):
        course.install(found(clone), dev=False)
    with pytest.raises(course.Stop, match=r"4\.3 GiB of disk"):
        course.install(found(clone), dev=False, engines=True)


@pytest.mark.fault("set-up")
def test_a_half_unpacked_package_is_seen_as_missing(clone: Path) -> None:
    packages = clone / ".venv" / "packages"
    for name, record in {"whole": "whole.py,,\nINSTALLER,,\n", "half": "half.py,,\n", "less": None}.items():
        (packages / f"{name}-1.0.dist-info").mkdir()
        if record:
            (packages / f"{name}-1.0.dist-info" / "RECORD").write_text(record)
    course.forget_half_installed(packages)
    assert [folder.name for folder in packages.iterdir()] == ["whole-1.0.dist-info"]


# What went wrong, in a sentence


@pytest.mark.fault("set-up")
@pytest.mark.parametrize(
    ("accident", "status", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left"), 1, "disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "quota"),
        (PermissionError(errno.EACCES, "Permission denied", "/course/.venv"), 1, "belong to you"),
        (OSError(errno.EIO, "Input/output error", "/course/.venv"), 1, "refused a step"),
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
    """A clone, in a folder with letters that no ASCII has, on which no index answers."""
    root = tmp_path_factory.mktemp("a real clone") / "kürs Łukasz"
    (root / "helpers").mkdir(parents=True)
    shutil.copy(FILE, root)
    shutil.copy(FILE.parent / "helpers" / "__init__.py", root / "helpers")
    shutil.copytree(FILE.parent / "helpers" / "course", root / "helpers" / "course")
    (root / "requirements.txt").write_text(REQUIREMENTS)
    (root / "requirements.lock").write_text("platformdirs==4.14.7 --hash=sha256:1d9f\n")
    return root


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    dead = "http://127.0.0.1:9"
    nothing = {name: "" for name in os.environ if name.upper().startswith("PIP_")}
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": dead, "PIP_RETRIES": "0", "HTTPS_PROXY": dead}
    environment = {**os.environ, **nothing, **pip, "NO_PROXY": "127.0.0.1", "LC_ALL": "C"}
    return subprocess.Popen(
        [sys.executable, "course.py", *arguments],
        cwd=root,
        env={name: value for name, value in environment.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )


@pytest.mark.fault("set-up")
@pytest.mark.nightly
def test_no_network_ends_in_a_sentence(real: Path) -> None:
    child = start(real, "setup")
    _, errors = child.communicate(timeout=200)
    assert child.returncode == 1
    assert "could not be reached" in errors
    assert "Traceback" not in errors
    assert not list((real / ".venv").glob("*.installed"))


@pytest.mark.fault("set-up")
@pytest.mark.nightly
def test_a_broken_environment_is_repaired(real: Path) -> None:
    python = real / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python.parent.mkdir(parents=True, exist_ok=True)
    python.unlink(missing_ok=True)
    printed, errors = start(real, "setup").communicate(timeout=200)
    assert "Repairing .venv: done" in printed
    assert "could not be reached" in errors
    assert python.exists()


@pytest.mark.fault("set-up")
@pytest.mark.nightly
@pytest.mark.parametrize(
    "encoding", [{}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_folder_with_letters_beyond_ascii_is_on_the_path_in_every_locale(
    real: Path, encoding: dict[str, str]
) -> None:
    start(real, "setup").communicate(timeout=200)
    python = real / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    program = "import helpers, os; print(ascii(os.fsencode(os.path.dirname(os.path.dirname(helpers.__file__)))))"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
    found = subprocess.check_output([python, "-c", program], cwd=real.parent, env=plain | encoding)
    assert ast.literal_eval(found.decode().strip()) == os.fsencode(real)


@pytest.mark.fault("set-up")
@POSIX
def test_a_kill_ends_the_children_and_says_so(real: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    shutil.copytree(real, root, ignore=shutil.ignore_patterns(".venv", "build"))
    child = start(root, "setup")
    assert "Making .venv" in child.stdout.readline()
    child.terminate()
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "the same command continues" in errors


def test_the_doctor_answers_before_the_set_up(real: Path) -> None:
    printed, _ = start(real, "doctor", "--json").communicate(timeout=60)
    assert {"python", "cores", "free_disk_gib", "environment"} <= set(json.loads(printed))


# What somebody else made, or is using


def uv_environment(root: Path, *, pip: bool) -> Path:
    """An environment in `root` that the course did not make, with a package of somebody's in it."""
    made = [sys.executable, "-m", "venv", *([] if pip else ["--without-pip"]), root / ".venv"]
    subprocess.run(made, check=True)
    theirs = next((root / ".venv").rglob("site-packages")) / "theirs.py"
    theirs.write_text("kept = True")
    return theirs


@pytest.mark.fault("set-up")
@pytest.mark.nightly
def test_an_environment_without_pip_gets_it_and_keeps_all_else(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(clone / ".venv")
    theirs = uv_environment(clone, pip=False)
    monkeypatch.setattr(course, "ROOT", FILE.parent)
    assert course.ensure_environment()["pip"]
    assert theirs.exists()


def test_an_environment_of_our_own_without_pip_is_made_anew(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clone / ".venv" / course.MADE_HERE).touch()
    monkeypatch.setattr(course, "probe", lambda: {"pip": False})
    monkeypatch.setattr(course, "make_environment", lambda: (_ for _ in ()).throw(course.Stop("made anew")))
    with pytest.raises(course.Stop, match="made anew"):
        course.ensure_environment()


@pytest.mark.fault("set-up")
def test_an_environment_of_somebody_elses_that_does_not_run_is_left(clone: Path) -> None:
    theirs = clone / ".venv" / "theirs.txt"
    theirs.write_text("years of work")
    with pytest.raises(course.Stop, match="not made by this course"):
        course.make_environment()
    assert theirs.exists()


@pytest.mark.fault("set-up")
@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_link_or_a_file_at_the_environments_place_is_left(kind: str, clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    if kind == "link":
        (clone / ".venv").symlink_to(clone / "elsewhere")
    else:
        (clone / ".venv").write_text("the name of an environment, as some tools write it")
    with pytest.raises(course.Stop, match="Rename or remove it"):
        course.make_environment()
    assert os.path.lexists(clone / ".venv")


@pytest.mark.fault("set-up")
def test_nothing_is_installed_while_jupyterlab_runs_from_the_environment(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "users", lambda: [4711])
    monkeypatch.setattr(course, "run_logged", lambda *_: pytest.fail("it installed"))
    with pytest.raises(course.Stop, match=r"runs from it \(process 4711\): end it"):
        course.install(found(clone), dev=False)


@POSIX
def test_a_kernel_that_runs_from_the_environment_is_seen(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "VENV", Path(sys.prefix))
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(clone / "kernel.json")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=clone) as kernel:
        assert until(lambda: kernel.pid in course.users())
        kernel.kill()


@pytest.mark.fault("set-up")
def test_a_second_set_up_waits_for_the_first_and_says_so(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entered = threading.Event()

    def second() -> None:
        with course.alone():
            entered.set()

    with course.alone():
        waiting = threading.Thread(target=second, daemon=True)
        waiting.start()
        assert until(lambda: "Another set-up of this course" in capsys.readouterr().out)
        assert not entered.is_set()
    assert entered.wait(10)


@pytest.mark.fault("set-up")
@POSIX
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_does_not_stop_a_set_up(number: int, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with course.alone():
        pass


def test_a_course_that_is_set_up_writes_nothing(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = found(clone) | {"pip": True}
    course.stamp(clone / "requirements.lock").write_text(course.digest(clone / "requirements.lock", "3.11.7"))
    (here["packages"] / "course.pth").write_text(course.path_line(clone))
    monkeypatch.setattr(course, "probe", lambda: here)
    monkeypatch.setattr(course, "alone", lambda: pytest.fail("it wrote"))
    monkeypatch.setattr(course, "call", lambda _: 0)
    course.prepare()


@pytest.mark.parametrize("name", ["kürs", "Łukasz", "课程", "a\udcff", "two\nlines", "ends in a space "])
def test_the_line_that_puts_a_folder_on_the_path_is_ascii_and_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = course.path_line(Path("/home") / name)
    assert line.isascii()
    assert line.count("\n") == 1
    monkeypatch.setattr(sys, "path", [])
    exec(line)
    assert sys.path == [f"/home/{name}"]


# The commands


def test_the_proof_is_run_by_the_environment_with_what_was_asked(
    main: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[Any]] = []
    prepared: list[dict[str, bool]] = []
    monkeypatch.setattr(course.platform, "system", lambda: "Linux")
    monkeypatch.setattr(course, "prepare", lambda **what: prepared.append(what) or Path("python"))
    monkeypatch.setattr(course, "call", lambda command: calls.append(command) or 3)
    assert main("test", "--quick") == 3
    assert prepared == [{"dev": True, "engines": True}]
    assert calls == [[Path("python"), "-m", "helpers.course.proof", "--quick"]]


def test_lab_opens_on_loopback_and_keeps_its_token_off_the_command_line(
    clone: Path, main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))
    monkeypatch.setattr(course, "call", lambda command, **more: calls.append((command, more)) or 0)
    assert main("lab", "--no-browser", "--small") == 0
    command, more = calls[0]
    assert "--ServerApp.ip=127.0.0.1" in command
    assert "--ServerApp.open_browser=False" in command
    assert f"notebooks/00_start.ipynb?token={more['JUPYTER_TOKEN']}" in capsys.readouterr().out
    assert not any(more["JUPYTER_TOKEN"] in str(part) for part in command)


def test_lab_asks_no_news_wraps_code_and_keeps_a_width(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = clone / ".venv" / "packages"
    course.dress_lab(packages)
    settings = json.loads((clone / ".venv/share/jupyter/lab/settings/overrides.json").read_text(encoding="utf-8"))
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    assert settings["@jupyterlab/notebook-extension:tracker"]["codeCellConfig"]["lineWrap"] is True
    assert "max-width" in (packages / "jupyter_server/static/custom/custom.css").read_text(encoding="utf-8")
    monkeypatch.setattr(Path, "write_bytes", lambda *_: pytest.fail("it wrote what was there"))
    course.dress_lab(packages)


def test_lab_opens_the_notebooks_of_another_language_once_they_are_written(
    clone: Path, main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))
    monkeypatch.setattr(course, "call", lambda command, **_: calls.append(command) or 0)
    assert main("lab", "--no-browser", "--small", "--language", "sv") == 0
    assert calls[0][1:] == ["-m", "helpers.course.translation", "--language", "sv", "make"]
    assert "lab/tree/notebooks/sv/00_start.ipynb?" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["lab", "setup"])
def test_the_engines_are_asked_for_by_name(
    command: str, clone: Path, main: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(course, "prepare", lambda engines: asked.append(engines) or Path("python"))
    monkeypatch.setattr(course, "call", lambda *_, **__: 0)
    assert [main(command, "--engines", "--small"), main(command, "--small")] == [0, 0]
    assert asked == [True, False]


def test_ctrl_c_is_how_lab_ends(clone: Path, main: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))
    monkeypatch.setattr(course, "call", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main("lab", "--small") == 0


def second_model(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the second model be fetched by a program of ours."""
    monkeypatch.setattr(course, "fetching", lambda *_: [sys.executable, "-c", program])


def test_lab_opens_while_the_second_model_is_fetched(
    clone: Path, main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second_model("import time; print('100 of 491 MB', flush=True); time.sleep(60)", monkeypatch)
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))

    def jupyter(*_: Any, **__: Any) -> int:
        assert until(lambda: "[qwen2.5-coder-0.5b] 100 of 491 MB" in capsys.readouterr().out)
        return 0

    monkeypatch.setattr(course, "call", jupyter)
    assert main("lab") == 0  # and does not wait for the other process


@pytest.mark.fault("set-up")
def test_a_second_model_that_cannot_be_fetched_is_told_and_ends_nothing(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second_model("raise SystemExit('No network.')", monkeypatch)
    printed = ""

    def told() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return "Again: python3 course.py fetch qwen2.5-coder-0.5b" in printed

    with course.fetching_second():
        assert until(told)
    assert "No network." in printed


def test_setup_is_ready_without_the_second_model(
    main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))
    monkeypatch.setattr(course, "call", lambda *_: 1)
    assert main("setup") == 0
    assert "To try again: python3 course.py fetch" in capsys.readouterr().out


@pytest.mark.fault("set-up")
@pytest.mark.parametrize("listening", [True, False], ids=["listening", "bound only"])
def test_a_port_in_use_is_passed_over(listening: bool) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()
        taken = other.getsockname()[1]
        assert course.free_port(taken) > taken


@pytest.mark.fault("set-up")
@pytest.mark.parametrize("wanted", [65536, 99999])
def test_a_port_that_no_machine_has_is_a_sentence(wanted: int) -> None:
    with pytest.raises(course.Stop, match="choose another with --port"):
        course.free_port(wanted)


@pytest.mark.parametrize("arguments", [[], ["--list"], ["--from", "hub", "smollm2-135m"], ["smollm2-135m", "--list"]])
def test_fetch_hands_on_what_it_is_given(
    arguments: list[str], main: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[Any]] = []
    monkeypatch.setattr(course, "prepare", lambda **_: Path("python"))
    monkeypatch.setattr(course, "call", lambda command: calls.append(command) or 0)
    assert main("fetch", *arguments) == 0
    assert calls[-1][1:] == ["-m", "helpers.models.sources", "fetch", *arguments]
