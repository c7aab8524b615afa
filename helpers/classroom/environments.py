"""The two environments for instructors, each made from a lock by version and hash: JupyterHub's and nbgrader's.

Neither is the learners': both pin a Jupyter of their own. They lie in .venvs beside the course's .venv, or where
SLM_CLASS_ENVIRONMENTS says.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.classroom.bounds import readable_by_all
from helpers.data import ROOT
from helpers.errors import CourseError

#: Where the requirements, the locks and the proxy's package files lie.
DEPLOY = ROOT / "deploy"
STAMP = "made-from.txt"


def environment_at(name: str) -> Path:
    """Where an environment lies, made or not: "hub" or "grading"."""
    chosen = os.environ.get("SLM_CLASS_ENVIRONMENTS")
    return (Path(chosen) if chosen else ROOT / ".venvs") / name


def python_of(name: str) -> Path:
    """That environment's Python."""
    return environment_at(name) / "bin" / "python"


def proxy() -> Path:
    """JupyterHub's proxy, a program of Node's."""
    return environment_at("hub") / "node" / "node_modules" / ".bin" / "configurable-http-proxy"


def ensure(name: str) -> Path:
    """The environment's Python; the environment is made when it is not there or its lock has changed."""
    folder, sources = environment_at(name), sorted((DEPLOY / name).glob("*lock*"))
    wanted = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if not (folder / STAMP).exists() or (folder / STAMP).read_text() != wanted:
        (folder / STAMP).unlink(missing_ok=True)
        print(f"Making the environment for {name}, once …", flush=True)
        _run([base_python(), "-m", "venv", str(folder)], "Python could not make an environment")
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        lock = str(DEPLOY / name / "requirements.lock")
        _run([str(python_of(name)), *install, "--requirement", lock], "The packages could not be installed")
        if name == "hub":
            _install_proxy(folder / "node")
        (folder / STAMP).write_text(wanted)
    return python_of(name)


def base_python() -> str:
    """The Python to make environments from: the course's own, or the system's where others could not run that one."""
    own = getattr(sys, "_base_executable", sys.executable)
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return next((one for one in (own, f"/usr/local/bin/{name}", f"/usr/bin/{name}") if readable_by_all(Path(one))), own)


def _install_proxy(folder: Path) -> None:
    if shutil.which("npm") is None:
        raise CourseError(
            "JupyterHub's proxy needs Node.js 20 or newer with npm, which is not here.",
            "Install it (on Debian and Ubuntu: apt-get install nodejs npm) and run the same command again.",
        )
    folder.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(DEPLOY / "hub" / name, folder)
    _run(["npm", "ci", "--silent", "--ignore-scripts", "--prefix", str(folder)], "npm could not install the proxy")


def _run(command: list[str], trouble: str) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
        raise CourseError(f"{trouble}: {last}", "Check the connection and the disk, then run the same command again.")
