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

#: The four steps from a notebook's exercises to their marks, as the command line explains them.
STEPS = {
    "release": "make the exercises of a notebook an assignment",
    "collect": "take everybody's functions, and name what cannot be graded",
    "grade": "grade what was collected",
    "feedback": "write a page for each",
}


def people(folder: ClassFolder, asked: argparse.Namespace) -> int:
    """Adds people and says where their PINs are."""
    names = [*asked.names, *(asked.file.read_text(encoding="utf-8").split() if asked.file else [])]
    new = folder.add(names)
    print(f"{len(new)} people are new in {folder.path}: {', '.join(new) or 'nobody'}.")
    if new:
        print(f"Their PINs are in {folder.at('pins.csv')}, which only you can read: hand them out, then delete it.")
    print(f"What the class may take is in {folder.at('class.toml')}. Next: python3 course.py class hub")
    return 0


def graded(folder: ClassFolder, asked: argparse.Namespace) -> int:
    """Takes one of the four steps and says what came of it."""
    stem = notebook_named(asked.number)
    match asked.command:
        case "release":
            print(f"For the learners: {grading.release(folder, stem)}")
        case "collect":
            print("\n".join(map(str, grading.collected(folder, stem, asked.inbox))) or "Nobody handed anything in.")
        case "grade":
            print(f"Marks: {grading.grade(folder, stem)}")
        case "feedback":
            print("\n".join(map(str, grading.feedback(folder, stem))) or "Nothing was graded yet.")
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
    for name, told in STEPS.items():
        command = commands.add_parser(name, help=told)
        command.add_argument("number", metavar="NUMBER", help="of the notebook, as 06")
        command.set_defaults(function=graded)
        if name == "collect":
            command.add_argument("--from", dest="inbox", type=Path, help="a folder of NAME.ipynb files, not the homes")
    asked = parser.parse_args(arguments)
    try:
        status: int = asked.function(ClassFolder(asked.folder), asked)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
