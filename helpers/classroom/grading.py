"""Exercises given out, collected and graded, by nbgrader's own commands over the class's folder.

    release NUMBER     the source assignment is made, and from it, by nbgrader, what learners get
    collect NUMBER     each learner's functions, by name, are put into the pristine notebook
    grade NUMBER       nbgrader runs these and keeps the marks, which marks.csv then holds
    feedback NUMBER    nbgrader writes a page for each, which is put under the learner's name

Learners are pseudonyms in all that nbgrader keeps; names.csv alone says whose, and may be deleted.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.classroom import environments, exercises
from helpers.classroom.cases import hidden_cases
from helpers.classroom.exercises import BrokenSubmission, Task
from helpers.classroom.folder import INSTRUCTOR, ClassFolder
from helpers.classroom.hub import share_kernel
from helpers.errors import CourseError, InvalidInput

#: What nbgrader is told; a value here replaces a default of its own.
NBGRADER = """\
c = get_config()
c.CourseDirectory.course_id = "slm"
c.ClearSolutions.code_stub = {"python": ""}   # the stub stands above the solution
c.ExecutePreprocessor.timeout = 300           # a cell; each call of a learner's function ends after 10 s
c.Application.log_level = "WARN"
"""


@dataclass(frozen=True, slots=True)
class HandedIn:
    """What came of one person's submission: which functions it has, which it lacks, why it is broken if it is."""

    name: str
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    broken: str = ""

    def __str__(self) -> str:
        if self.broken:
            return f"{self.name}: not graded, {self.broken}"
        lacks = f", without {', '.join(self.missing)}" if self.missing else ""
        return f"{self.name}: {len(self.found)} of {len(self.found) + len(self.missing)} functions{lacks}"


def release(folder: ClassFolder, stem: str) -> Path:
    """The notebook that learners get, after the source assignment was made anew from the course's notebook."""
    folder.make()
    found = exercises.tasks(stem)
    if not found:
        raise InvalidInput(f"{stem} has no exercise whose attempt is a function.")
    wrong = [task.name for task in found if not exercises.agrees(stem, task)]
    if wrong:
        raise CourseError(f"The solution of {wrong[0]} does not pass its own check.", "Mend it before you release.")
    source = folder.at("grading", "source", stem, f"{stem}.ipynb")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(json.dumps(source_notebook(folder, stem, found), indent=1), encoding="utf-8")
    nbgrader(folder, "generate_assignment", stem, "--force", "--create")
    return released(folder, stem)


def released(folder: ClassFolder, stem: str) -> Path:
    """Where the notebook that learners get lies."""
    return folder.at("grading", "release", stem, f"{stem}.ipynb")


def source_notebook(folder: ClassFolder, stem: str, found: Iterable[Task]) -> dict[str, Any]:
    """The assignment as nbgrader wants it: solutions and hidden cases in regions that it cuts out."""
    cells = [_markdown(f"# {stem}: exercises"), _cell("from helpers import check", "imports", locked=True)]
    text = exercises.solution_path(stem).read_text(encoding="utf-8")
    for task in found:
        solution = exercises.functions([text], [task.name])[task.name]
        seed, reference = f"{folder.seed} {stem} {task.name}", exercises.solution_of(stem, task.name)
        cases = hidden_cases(task.spec, reference, task.cases, seed=seed, close=task.close)
        call = f"check({task.name}, {task.spec.__name__}, {cases!r}, close={task.close!r})"
        hidden = f"### BEGIN HIDDEN TESTS\nverdict = {call}\nassert verdict.passed, verdict\n### END HIDDEN TESTS"
        cells += [
            _markdown(task.statement),
            _cell(f"{task.stub}\n### BEGIN SOLUTION\n{solution}\n### END SOLUTION", task.name, solution=True),
            _cell(asserted(task.check), f"{task.name}_check", points=1),
            _cell(f"# Further cases are tried when this is graded.\n{hidden}", f"{task.name}_hidden", points=1),
        ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def asserted(check: str) -> str:
    """A check cell that ends in an assert: nbgrader gives the points of a cell that raises nothing."""
    head, mark, call = check.rpartition("\ncheck(")
    return f"{head}\nverdict = check({call}\nassert verdict.passed, verdict" if mark else check


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _cell(source: str, name: str, *, solution: bool = False, locked: bool = False, points: int = 0) -> dict[str, Any]:
    told = {"grade": points > 0, "solution": solution, "locked": locked or points > 0, "task": False}
    graded: dict[str, Any] = {"schema_version": 3, "grade_id": name, "cell_type": "code"} | told
    graded |= {"points": points} if points else {}
    empty: dict[str, Any] = {"execution_count": None, "outputs": []}
    return {"cell_type": "code", "id": name[:64], "metadata": {"nbgrader": graded}, "source": source} | empty


def collected(folder: ClassFolder, stem: str, inbox: Path | None = None) -> list[HandedIn]:
    """What came of each submission, now where nbgrader grades it: from homes, or from a folder of NAME.ipynb files."""
    pristine = released(folder, stem)
    if not pristine.is_file():
        raise InvalidInput(f"{stem} was not released yet.", f"python3 course.py class release {stem[:2]}")
    shutil.rmtree(folder.at("grading", "submitted"), ignore_errors=True)
    results = [_taken(folder, stem, pristine, name, path) for name, path in _handed_in(folder, stem, inbox).items()]
    rows = sorted({(folder.pseudonym(one.name), one.name) for one in results} | {*_names(folder).items()})
    folder.write_secret("names.csv", "".join(f"{pseudonym},{name}\n" for pseudonym, name in rows))
    return results


def _names(folder: ClassFolder) -> dict[str, str]:
    """Whose each pseudonym is, for as long as names.csv is kept."""
    place = folder.at("names.csv")
    return dict(csv.reader(place.read_text(encoding="utf-8").splitlines())) if place.exists() else {}


def _handed_in(folder: ClassFolder, stem: str, inbox: Path | None) -> dict[str, Path]:
    if inbox is not None:
        return {path.stem: path for path in sorted(inbox.glob("*.ipynb"))}
    homes = {name: folder.at("homes", name, "course", "notebooks", f"{stem}.ipynb") for name in folder.people()}
    return {name: path for name, path in homes.items() if name != INSTRUCTOR and os.path.lexists(path)}


def _taken(folder: ClassFolder, stem: str, pristine: Path, name: str, path: Path) -> HandedIn:
    notebook = json.loads(pristine.read_text(encoding="utf-8"))
    wanted = [cell["metadata"]["nbgrader"]["grade_id"] for cell in notebook["cells"] if is_solution(cell)]
    try:
        if any(above.is_symlink() for above in path.parents if above.is_relative_to(folder.path)):
            raise BrokenSubmission("its folder is a link")
        found = exercises.functions(exercises.code_cells(path), wanted, taken=_own_names(notebook))
    except BrokenSubmission as error:
        return HandedIn(name, broken=error.message)
    target = folder.at("grading", "submitted", folder.pseudonym(name), stem, f"{stem}.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(graded_notebook(notebook, found)), encoding="utf-8")
    return HandedIn(name, tuple(found), tuple(one for one in wanted if one not in found))


def is_solution(cell: Mapping[str, Any]) -> bool:
    """Whether a cell of an assignment is a learner's to fill."""
    return bool(cell["metadata"].get("nbgrader", {}).get("solution"))


def _own_names(notebook: Mapping[str, Any]) -> set[str]:
    """The names that the pristine notebook defines in cells that are no learner's."""
    texts = [
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code" and not is_solution(cell)
    ]
    return {name for text in texts for name in exercises.defined(text)}


def graded_notebook(pristine: dict[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
    """The pristine notebook with a learner's functions, each to be run apart; a missing one stays the stub."""
    start = _cell("%load_ext helpers.classroom.apart\n%xmode Minimal", "apart", locked=True)
    del start["metadata"]["nbgrader"]  # so that nbgrader takes it for a learner's note and lets it stand
    cells = [start]
    for cell in pristine["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        source = f"%%apart {name}\n{found[name]}" if is_solution(cell) and name in found else cell["source"]
        cells.append(cell | {"source": source})
    return pristine | {"cells": cells}


def grade(folder: ClassFolder, stem: str) -> Path:
    """The file of marks, after nbgrader graded what was collected; one that cannot be graded stops no other."""
    nbgrader(folder, "autograde", stem, "--force", "--create")
    marks = folder.at("grading", "marks.csv")
    nbgrader(folder, "export", f"--to={marks}")
    return marks


def feedback(folder: ClassFolder, stem: str) -> list[Path]:
    """A page for each learner, under their name where names.csv is kept, else under the pseudonym."""
    nbgrader(folder, "generate_feedback", stem, "--force")
    names, pages = _names(folder), []
    for page in sorted(folder.at("grading", "feedback").glob(f"*/{stem}/{stem}.html")):
        pseudonym = page.parents[1].name
        target = folder.at("grading", "handback", stem, f"{names.get(pseudonym, pseudonym)}.html")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)
        pages.append(target)
    return pages


def nbgrader(folder: ClassFolder, command: str, *arguments: str) -> str:
    """What a command of nbgrader's says, in the class's folder, with the course's kernel; its failure is an error."""
    python, place = environments.ensure("grading"), folder.at("grading")
    (place / "nbgrader_config.py").write_text(NBGRADER, encoding="utf-8")
    own = {"SLM_CLASS": str(folder.path), "JUPYTER_PATH": str(share_kernel(folder, sys.executable))}
    # No setting of the instructor's own Jupyter, and no key that may stand in the environment.
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    own |= {"HOME": str(place), "JUPYTER_CONFIG_DIR": str(place / ".jupyter"), "JUPYTER_DATA_DIR": str(place / ".data")}
    own["PATH"] = f"{python.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"  # nbgrader calls alembic by its name
    line = [str(python), "-m", "nbgrader", command, *arguments]
    done = subprocess.run(line, cwd=place, env=kept | own, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise CourseError(f"nbgrader {command} failed:\n{done.stderr.strip()[-2000:]}", f"It ran in {place}.")
    return done.stderr
