"""A file of finished runs in data/, a line each, which takes none that was made with other settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import machine
from helpers.data import FOLDER
from helpers.making import training
from helpers.models.files import home, written_whole


@dataclass(frozen=True)
class StoredRuns:
    """The runs of one script: the file's name in data/, and the settings and data that all of them were made with."""

    name: str
    made_with: dict[str, Any]

    @property
    def path(self) -> Path:
        """Where the runs stand."""
        return FOLDER / f"{self.name}.json"

    def checkpoints(self, *parts: str | int) -> Path:
        """Where a run's checkpoints lie; a run with other settings or data finds none of them."""
        return home() / self.name / training.fingerprint(self.made_with) / "-".join(map(str, parts))

    def read(self) -> list[dict[str, Any]]:
        """The finished runs; those of another setting are refused."""
        if not self.path.exists():
            return []
        found = json.loads(self.path.read_text(encoding="utf-8"))
        runs = found.pop("runs")
        found.pop("machine")
        step = f"Move {self.path} away to make it anew."
        training.require_same(found, self.made_with, f"What stands in {self.path.name}", step)
        return list(runs)

    def add(self, run: dict[str, Any]) -> None:
        """Writes the finished runs and this one."""
        head = json.dumps(self.made_with | {"machine": str(machine.describe())}, ensure_ascii=False)[1:-1]
        lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in [*self.read(), run])
        with written_whole(self.path) as part:
            part.write_text(f'{{{head},\n"runs": [\n{lines}\n]}}\n', encoding="utf-8")
