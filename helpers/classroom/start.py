"""A learner's server, started as the learner: brings the course into their home, then becomes JupyterLab.

    python start.py COURSE SHARED -- the server's own command …

Only the standard library: the Hub's Python runs it. It works with the learner's rights alone, so a link that a learner
puts in its way leads nowhere that they could not go themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

#: What a learner reads and changes. Code, data and the environment stay where they are, for all.
BROUGHT = ("README.md", "notebooks", "lessons", "docs", "solutions")
NOTE = ".from-the-course.json"


def renew(course: Path, home: Path) -> list[str]:
    """Copies what is new in the course into `home`, and returns the names of those files.

    A file that the learner changed stays as it is; one that they left untouched is replaced by a newer one.
    """
    home.mkdir(parents=True, exist_ok=True)
    note = home / NOTE
    try:
        known: dict[str, str] = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    new = []
    for source in _files(course):
        name = source.relative_to(course).as_posix()
        target, digest = home / name, _digest(source)
        if target.is_symlink() or (target.exists() and _digest(target) != known.get(name, "")):
            continue  # the learner's own by now
        if known.get(name) != digest or not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_name(f".{target.name}.half")
            shutil.copyfile(source, half)
            os.replace(half, target)
            new.append(name)
        known[name] = digest
    note.write_text(json.dumps(known), encoding="utf-8")
    return new


def link_models(shared: Path, cache: Path) -> None:
    """Makes the shared models appear in a cache of one's own, in which more may be kept."""
    cache.mkdir(parents=True, exist_ok=True)
    for source in sorted(shared.rglob("*")):
        target = cache / source.relative_to(shared)
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif not target.exists():
            target.unlink(missing_ok=True)  # a link to what is gone
            target.symlink_to(source)


def _files(course: Path) -> Iterator[Path]:
    for name in BROUGHT:
        place = course / name
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (one for one in found if one.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & {*one.parts})


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str]) -> None:
    """Brings the course, links the models, and becomes the server."""
    course, shared, command = Path(arguments[0]), Path(arguments[1]), arguments[3:]
    home = Path.home()
    try:
        renew(course, home / "course")
        link_models(shared / "models", home / ".cache" / "slm-course")
    except OSError as error:  # a full disk is no reason to keep anybody from their work
        print(f"The course could not be brought up to date: {error}", file=sys.stderr)
    os.chdir(home)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
