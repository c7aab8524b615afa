"""The people who may use a server: a key for each, and their limits."""

from __future__ import annotations

import csv
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.errors import InvalidInput
from helpers.routes import Key


@dataclass(frozen=True, slots=True)
class Guest:
    """One person's key to a server, with its limits; None is no limit."""

    name: str
    key: Key
    requests_per_minute: int | None = None
    at_once: int | None = None

    def entry(self) -> dict[str, Any]:
        """What the server's process is told, key included."""
        limits = {"requests_per_minute": self.requests_per_minute, "at_once": self.at_once}
        return {"name": self.name, "key": self.key.reveal(), **limits}


def class_keys(file: Path, students: int = 0, **limits: int | None) -> list[Guest]:
    """The guests of a class from a file of `name,key` lines; for a file that is not there, that many are made.

    The file is readable by its owner alone. Give each student their line, and keep the file out of the repository.
    """
    if not file.exists():
        if students < 1:
            raise InvalidInput(f"There is no file {file}.", "Say how many keys to make: --students 25.")
        file.touch(0o600, exist_ok=False)
        lines = [f"student{n:02},{secrets.token_urlsafe(24)}\n" for n in range(1, students + 1)]
        file.write_text("".join(lines), encoding="utf-8")
    with file.open(newline="", encoding="utf-8") as text:
        rows = [row for row in csv.reader(text) if row]
    if not rows or any(len(row) != 2 for row in rows):
        raise InvalidInput(f"{file} is not a list of keys.", "Each line is a name, a comma and a key.")
    return [Guest(name, Key(key), **limits) for name, key in rows]
