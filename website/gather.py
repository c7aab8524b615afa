"""All pages of a language, where Sphinx reads them: as they lie in the repository, so that their links hold."""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from helpers.course import translation
from helpers.course.localised import LINK, relinked
from helpers.data import ROOT
from website import tables, tools

PAGES = ROOT / "website" / "pages"
WORDS = PAGES / "words.md"
#: A line in a page of the site that stands for something made from data.
MADE = re.compile(r"(?m)^<!-- (\w+) -->$")

FOLDER_LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:)([^)\s#]+)\)")


def where(path: Path) -> Path:
    """Where a page goes: the site's own to the top, all others as they lie."""
    return ROOT / path.name if path.parent == PAGES else path


def pages() -> list[Path]:
    """Every page of the course in the order of its stems."""
    faults = ROOT / "docs" / "faults.md"
    return [path for paths in translation.sources().values() for path in paths if path != WORDS] + [faults]


def in_language(path: Path, language: str) -> Any:
    """A page in a language, with its links as they hold in the site."""
    if language != "en" and path.name != "faults.md":
        return translation.page(path, language, where=where)
    made = translation.said_anew(path, lambda message: message.english)
    if path.suffix != ".ipynb":
        return relinked(made, path, where, pages(), lambda _: {})
    return made


def words(language: str) -> Callable[[str], str]:
    """What the made parts say, by its English: the lines of words.md in a language."""
    english, said = (re.findall(r"(?m)^\S.*$", in_language(WORDS, one)) for one in ("en", language))
    return dict(zip(english, said, strict=True)).__getitem__


def gather(language: str, to: Path) -> None:
    """Writes all pages of a language into an empty folder, with the files that they link to."""
    say = words(language)
    shutil.rmtree(to, ignore_errors=True)
    for path in pages():
        page, target = in_language(path, language), to / where(path).relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            text = nbformat.writes(with_solutions(page, path.stem, say))
            linked = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
        else:
            text = linked = completed(page, path, language, say)
        target.write_text(text, encoding="utf-8")
        for file in linked_files(linked, path):
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            if file.endswith(".md"):  # a page beside the contents
                text = (ROOT / file).read_text(encoding="utf-8")
                (to / file).write_text(f"---\norphan: true\n---\n{text}", encoding="utf-8")
            else:
                shutil.copyfile(ROOT / file, to / file)
    for name, text in tables.api_pages().items():
        (to / "api").mkdir(exist_ok=True)
        (to / "api" / f"{name}.md").write_text(text, encoding="utf-8")


def linked_files(text: str, path: Path) -> Iterator[str]:
    """The files of the repository that a page's links lead to, beside its pages."""
    known = {where(page) for page in pages()}
    for match in LINK.finditer(text):
        target = (match["target"] or match["named"] or "").partition("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            file = Path(os.path.normpath(where(path).parent / target))
            if file not in known and file.is_file():
                yield file.relative_to(ROOT).as_posix()


def completed(text: str, path: Path, language: str, say: Callable[[str], str]) -> str:
    """A page with its parts that are made from data, without links to folders, and with its place in the contents."""
    made = tables.MADE | {"course": lambda say: course_table(language, say), "tools": tools.words}
    text = MADE.sub(lambda match: made[match[1]](say), text)
    text = FOLDER_LINK.sub(lambda found: found[1] if (where(path).parent / found[2]).is_dir() else found[0], text)
    if path.name == "index.md":
        text += contents(language, say)
    elif path.parent.name == "lessons":
        text += toctree("", [f"{say('Notebook')} <../notebooks/{path.stem}>"])
    return text


def contents(language: str, say: Callable[[str], str]) -> str:
    """The contents of the whole site."""
    lessons = [path for path in pages() if path.parent.name == "lessons"]
    course = [f"{path.stem[:2]} · {title(in_language(path, language))} <lessons/{path.stem}>" for path in lessons]
    docs = [f"docs/{path.stem}" for path in pages() if path.parent.name == "docs"]
    api = [f"api/{name}" for name in tables.api_pages()]
    reference = ["try", "models", "results", "glossary", f"{say('The course as a repository')} <README>"]
    return "".join(
        [
            toctree(say("Course"), course),
            toctree(say("To look up"), reference),
            toctree(say("For instructors and makers"), docs),
            toctree(say("The helpers' front"), api),
        ]
    )


def course_table(language: str, say: Callable[[str], str]) -> str:
    """One row a page of the course: its question, and where its lesson and its notebook are."""
    lines = [f"| | {say('Question')} | {say('Notebook')} |", "|---|---|---|"]
    for path in (path for path in pages() if path.parent.name == "lessons"):
        number, question = path.stem[:2], title(in_language(path, language))
        notebook = f"[{say('Notebook')} {number}](notebooks/{path.stem}.ipynb)"
        lines.append(f"| {number} | [{question}](lessons/{path.name}) | {notebook} |")
    return "\n".join(lines)


def title(text: str) -> str:
    """The first heading of a page."""
    return text.partition("\n")[0].lstrip("# ")


def toctree(caption: str, entries: list[str]) -> str:
    """A part of the contents, shown at the side only."""
    said = f":caption: {caption}\n" if caption else ""
    return f"\n\n```{{toctree}}\n:hidden:\n{said}\n" + "\n".join(entries) + "\n```\n"


def with_solutions(notebook: NotebookNode, stem: str, say: Callable[[str], str]) -> NotebookNode:
    """The notebook with each exercise's solution folded below its check, and its pictures told in words."""
    solved, waiting, cells = solutions(stem), "", []
    for cell in notebook.cells:
        if alt := cell.metadata.get("alt"):
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
        cells.append(cell)
        if cell.cell_type == "code":
            stub = re.search(r"(?m)^def (\w+)\(.*\n?.*\.\.\.\s*\Z", cell.source)
            waiting = stub[1] if stub and stub[1] in solved else waiting
            if waiting and f"check({waiting}" in cell.source:
                code = f"```python\n{solved[waiting]}\n```"
                folded = f"<details><summary>{say('Solution')}</summary>\n\n{code}\n\n</details>"
                cells.append(new_markdown_cell(folded, id=f"solved-{cell.id}"))
                waiting = ""
    notebook.cells = cells
    return notebook


def solutions(stem: str) -> dict[str, str]:
    """Each function that a page's solutions define, as code."""
    path = ROOT / "solutions" / f"{stem}.py"
    if not path.exists():
        return {}
    source = path.read_text(encoding="utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {function.name: ast.get_source_segment(source, function) or "" for function in functions}
