"""The locks: every package that the requirements bring along, by version and hash, for all systems at once.

    python3 course.py lock [--upgrade]        makes them anew; without --upgrade what is locked stays as it is

Each requirements file, which people read and edit, has a lock beside it, from which `course.py` installs. They are
resolved together, so that they agree with one another. torch and its CUDA packages are in none: `course.py` installs
the build that fits the machine, and without a GPU those packages would be gigabytes for nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from helpers.data import ROOT
from helpers.errors import CourseError

LAYERS = ("requirements.txt", "requirements-dev.txt", "requirements-engines.txt", "requirements-site.txt")
#: What lives in an environment of its own, for instructors, and so agrees with nothing above.
LOCKED_APART = ("deploy/hub/requirements.txt", "deploy/grading/requirements.txt")
OLDEST = "3.11"
WITH_TORCH = re.compile(r"torch|triton|(nvidia|cuda)-.+")
HEADER = "# Made from {} by `python3 course.py lock`, which every change there asks for. Not to be edited.\n# of {}\n"


def lock_of(requirements: Path) -> Path:
    """The lock that belongs to a requirements file: `requirements-dev.txt` → `requirements-dev.lock`."""
    return requirements.with_suffix(".lock")


def digest(root: Path = ROOT, layers: Iterable[str] = LAYERS) -> str:
    """The SHA-256 of all that is required, in hexadecimal; neither comments nor the order of lines change it."""
    texts = [(root / name).read_text(encoding="utf-8") for name in layers]
    lines = {line.partition("#")[0].strip() for text in texts for line in text.splitlines()}
    return hashlib.sha256("\n".join(sorted(lines - {""})).encode()).hexdigest()


def outdated(root: Path = ROOT) -> list[str]:
    """The locks that were made from other requirements than those of today, or are not there."""
    now = dict.fromkeys(LAYERS, digest(root)) | {name: digest(root, [name]) for name in _apart(root)}
    locks = {name: lock_of(root / name) for name in now}
    return [
        locks[name].relative_to(root).as_posix()
        for name, wanted in now.items()
        if not locks[name].exists() or f"# of {wanted}" not in locks[name].read_text(encoding="utf-8")
    ]


def _apart(root: Path) -> list[str]:
    return [name for name in LOCKED_APART if (root / name).exists()]


def make(root: Path = ROOT, *, upgrade: bool = False) -> None:
    """Writes the locks; all of them or, where the resolution fails, none."""
    newest = ["--upgrade"] if upgrade else []
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder) / "together.txt"
        # uv keeps the versions that it finds in the file it is to write.
        locked = [lock_of(root / name) for name in LAYERS]
        together.write_text("".join(lock.read_text(encoding="utf-8") for lock in locked if lock.exists()))
        _compile([root / name for name in LAYERS], together, "--no-annotate", *newest)
        pinned = together.read_text(encoding="utf-8")
        left_out = [f"--no-emit-package={name}" for name in names(pinned) if WITH_TORCH.fullmatch(name)]
        texts = {}
        for name in LAYERS:
            part = lock_of(Path(folder) / name)
            _compile([root / name], part, "--generate-hashes", f"--constraint={together}", *left_out)
            texts[name] = HEADER.format(name, digest(root)) + _portable(part.read_text(encoding="utf-8"), root, folder)
        for name in _apart(root):
            part = Path(folder) / "apart.lock"
            before = lock_of(root / name)
            part.write_text(before.read_text(encoding="utf-8") if before.exists() else "")
            _compile([root / name], part, "--generate-hashes", *newest)
            found = _portable(part.read_text(encoding="utf-8"), root, folder)
            texts[name] = HEADER.format(name, digest(root, [name])) + found
    for name, text in texts.items():
        lock_of(root / name).write_text(text, encoding="utf-8", newline="\n")


def names(text: str) -> list[str]:
    """The packages that a lock names, in its order."""
    return re.findall(r"^([\w.-]+)==", text, re.MULTILINE)


def _compile(requirements: Iterable[Path], to: Path, *arguments: str) -> None:
    """One resolution by uv, for all systems and all Pythons from the oldest on."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", f"--python-version={OLDEST}"]
    command += ["--no-header", "--annotation-style=line", f"--output-file={to}", *arguments, *map(str, requirements)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise CourseError(
            f"The requirements cannot be locked; uv says:\n{done.stderr.strip()}",
            "Change the pin that it names, or check the connection; the locks were left as they are.",
        )


def _portable(text: str, root: Path, folder: str) -> str:
    """The lock without the folders that it was made in, and without notes on the resolution's own constraints."""
    text = re.sub(r", -c [^,\n]+|(?<=via )-c [^,\n]+, ", "", text)
    return text.replace(f"{root}/", "").replace(f"{folder}/", "")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 course.py lock", description="Lock what the requirements bring.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest version of what no requirement pins")
    try:
        make(upgrade=parser.parse_args(arguments).upgrade)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    counts = [
        f"{lock_of(ROOT / n).name} ({len(names(lock_of(ROOT / n).read_text(encoding='utf-8')))})"
        for n in (*LAYERS, *LOCKED_APART)
    ]
    print(f"Locked: {', '.join(counts)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
