"""The instructor's command line: `python3 course.py class …`.

people NAME …    adds people to the class and makes their PINs; a file of names after --from
hub              starts the class's Hub on this machine, until Ctrl+C
release NUMBER   makes the exercises of a notebook an assignment: what learners get, and what only you see
collect NUMBER   takes everybody's functions by name, from their homes or, with --from, a folder of NAME.ipynb files
grade NUMBER     grades what was collected; the marks are then in marks.csv, by pseudonym
feedback NUMBER  writes a page for each, under their name
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from helpers.classroom import grading, hub
from helpers.classroom.exercises import notebook_named
from helpers.classroom.folder import ClassFolder
from helpers.errors import CourseError


def people(folder: ClassFolder, asked: argparse.Namespace) -> int:
    """Adds people and says where their PINs are."""
    names = [*asked.names, *(asked.file.read_text(encoding="utf-8").split() if asked.file else [])]
    new = folder.add(names)
    print(f"{len(new)} people are new in {folder.path}: {', '.join(new) or 'nobody'}.")
    if new:
        print(f"Their PINs are in {folder.at('pins.csv')}, which only you can read: hand them out, then delete it.")
    print(f"What the class may take is in {folder.at('class.toml')}. Next: python3 course.py class hub")
    return 0


def give_out(folder: ClassFolder, stem: str, _: argparse.Namespace) -> None:
    """Says where the assignment is."""
    print(f"For the learners: {grading.release(folder, stem)}")


def take_in(folder: ClassFolder, stem: str, asked: argparse.Namespace) -> None:
    """Names what everybody handed in, and what cannot be graded."""
    results = grading.collected(folder, stem, asked.inbox)
    print("\n".join(map(str, results)) or "Nobody handed anything in.")


def mark(folder: ClassFolder, stem: str, _: argparse.Namespace) -> None:
    """Says where the marks are."""
    print(f"Marks: {grading.grade(folder, stem)}")


def hand_back(folder: ClassFolder, stem: str, _: argparse.Namespace) -> None:
    """Says where the pages are."""
    print("\n".join(map(str, grading.feedback(folder, stem))) or "Nothing was graded yet.")


GRADING = {"release": give_out, "collect": take_in, "grade": mark, "feedback": hand_back}


def graded(folder: ClassFolder, asked: argparse.Namespace) -> int:
    """One of the four steps."""
    GRADING[asked.command](folder, notebook_named(asked.number), asked)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 course.py class", description="A class: its Hub and its exercises.")
    parser.add_argument("--folder", type=Path, help="the class's folder; else SLM_CLASS, else ~/slm-class")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    adding = commands.add_parser("people", help="add people, with PINs")
    adding.add_argument("names", nargs="*", metavar="NAME")
    adding.add_argument("--from", dest="file", type=Path, help="a file of names")
    adding.set_defaults(function=people)
    starting = commands.add_parser("hub", help="start the class's Hub")
    starting.set_defaults(function=lambda folder, _: hub.run_hub(folder))
    for name, step in GRADING.items():
        command = commands.add_parser(name, help=step.__doc__)
        command.add_argument("number", metavar="NUMBER", help="of the notebook, as 06")
        command.add_argument("--from", dest="inbox", type=Path, help="a folder of NAME.ipynb files (collect)")
        command.set_defaults(function=graded)
    asked = parser.parse_args(arguments)
    try:
        status: int = asked.function(ClassFolder(asked.folder), asked)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
