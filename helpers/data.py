"""What the course stores in data/: its own questions and texts, and results of runs too long for a notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.errors import DamagedFile, InvalidInput

#: The course's own folder, where README.md lies.
ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "data"


def stored(name: str) -> Any:
    """What data/NAME.json holds, as lists and dicts."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json")))
        raise InvalidInput(f"The course stores nothing named {name!r}.", f"There are: {known}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # cut short, or edited by hand
        raise DamagedFile(f"data/{path.name} is no longer JSON: {error}.", "Restore it with git.") from error
