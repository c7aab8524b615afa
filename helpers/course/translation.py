"""The course in other languages: `python3 course.py translate` brings locale/ up to date and writes the pages.

    locale/sv/STEM.po                 what a lesson and its notebook say, with the translation: the only place to edit
    locale/sv/whole.txt               the stems that have to be whole; "all" when every one has
    lessons/sv  notebooks/sv  README.sv.md    made from them, never edited, not committed

    python -m helpers.course.translation update                  takes up what changed in the English pages
    python -m helpers.course.translation todo STEM               what lacks a translation, as JSON
    python -m helpers.course.translation fill STEM FILE.json     {id: translation}; refuses what is not faithful
    python -m helpers.course.translation check [STEM …]          what lacks, what is doubtful, what is not faithful
    python -m helpers.course.translation make                    writes the pages

A translation whose English has changed is doubtful ("fuzzy") until it is filled in again, and not shown. A further
language is a further folder of locale/ with a whole.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import polib

from helpers.course.faithful import LONGEST_LINE, unfaithful
from helpers.course.localised import relinked, slug, target_of
from helpers.course.messages import PageMessage, code_alone, markdown_pieces, notebook_said, replaced
from helpers.data import ROOT
from helpers.errors import CourseError, InvalidInput
from helpers.models.files import written_whole

LOCALE = ROOT / "locale"
#: Two texts that are this alike are taken for an old and a new form of one.
ALIKE = 0.6


@dataclass(frozen=True)
class TranslatedMessage:
    """A message of a page, with its translation where there is one."""

    message: PageMessage
    said: str = ""
    fuzzy: bool = False
    before: str = ""

    @property
    def name(self) -> str:
        """A short name that stays as long as the English does."""
        return hashlib.sha256(f"{self.message.context}\0{self.message.english}".encode()).hexdigest()[:8]


# Pages


def sources(root: Path = ROOT) -> dict[str, list[Path]]:
    """The English pages of each stem: a lesson and its notebook, the README, the site's own pages, the handbooks."""
    found: dict[str, list[Path]] = {"README": [root / "README.md"]}
    globs = ("lessons/[0-9]*.md", "notebooks/[0-9]*.ipynb", "website/pages/*.md", "docs/*.md")
    for path in (path for pattern in globs for path in sorted(root.glob(pattern))):
        if path.name != "faults.md":  # written from the tests' names
            found.setdefault(stem_of(path), []).append(path)
    return found


def stem_of(path: Path) -> str:
    """The stem that a page belongs to: its own, or "site" for all pages that only the site has."""
    return "site" if path.parent.name == "pages" else path.stem


def translated_languages(locale: Path = LOCALE) -> list[str]:
    """The languages that the course is translated into, by code."""
    return sorted(path.parent.name for path in locale.glob("*/whole.txt"))


def said_anew(path: Path, say: Any) -> Any:
    """A page said anew: Markdown as text, a notebook as a notebook."""
    if path.suffix == ".ipynb":
        notebook = nbformat.read(path, as_version=4)
        notebook_said(notebook, say)
        return notebook
    text = path.read_text(encoding="utf-8")
    # The folder that holds the README is the checkout, whose name is anybody's.
    place = path.stem if path.stem == "README" or stem_of(path) == "site" else path.parent.name
    return replaced(text, markdown_pieces(text, place, sections=True), say)


def messages(paths: Iterable[Path]) -> list[PageMessage]:
    """All messages of some pages in their order, each once."""
    found: dict[tuple[str, str], PageMessage] = {}

    def listen(message: PageMessage) -> str:
        found[message.context, message.english] = message
        return message.english

    for path in paths:
        said_anew(path, listen)
    return list(found.values())


# The store


def store_of(language: str, stem: str, locale: Path = LOCALE) -> Path:
    """The file that holds a stem's translations."""
    return locale / language / f"{stem}.po"


def entries(stem: str, language: str, root: Path = ROOT) -> list[TranslatedMessage]:
    """The messages of a stem's pages as they are today, with what the store knows of them."""
    paths, path = sources(root).get(stem), store_of(language, stem, root / "locale")
    if not paths:
        raise InvalidInput(f"There is no page {stem!r} to translate.", f"There are: {', '.join(sources(root))}.")
    old = _stored(path.read_text(encoding="utf-8")) if path.exists() else ()
    exact = {(entry.msgctxt, entry.msgid): entry for entry in old}
    moved = {entry.msgid: entry for entry in old if entry.msgstr and not entry.fuzzy}
    today = messages(paths)
    gone = set(exact) - {(message.context, message.english) for message in today}
    left = [exact[key] for key in exact if key in gone and exact[key].msgstr]
    return [_known(message, exact, moved, left) for message in today]


@cache  # a stem's store is asked for each of its pages, and for the titles and headings that others show of it
def _stored(text: str) -> tuple[Any, ...]:
    """The entries of a store, from its text."""
    return tuple(polib.pofile(text))


def _known(message: PageMessage, exact: dict[Any, Any], moved: dict[str, Any], left: list[Any]) -> TranslatedMessage:
    """A message with its translation: its own, that of the same text elsewhere, or a doubtful one of an older form."""
    entry = exact.get((message.context, message.english))
    if entry and entry.msgstr:
        return TranslatedMessage(message, entry.msgstr, entry.fuzzy, entry.previous_msgid or "")
    if message.english in moved:
        return TranslatedMessage(message, moved[message.english].msgstr)
    near = [(likeness(e.msgid, message.english), e.msgid, e) for e in left]
    ratio, _, best = max(near, key=lambda pair: pair[:2], default=(0, "", None))
    return (
        TranslatedMessage(message, best.msgstr, True, best.msgid)
        if best and ratio > ALIKE
        else TranslatedMessage(message)
    )


def likeness(one: str, other: str) -> float:
    """How much two texts have in common, 0 to 1."""
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() > ALIKE else 0.0


def write_store(stem: str, language: str, known: Iterable[TranslatedMessage], root: Path = ROOT) -> None:
    """Writes a stem's store, the same for the same entries."""
    file = polib.POFile(wrapwidth=110)
    file.header = f"What {stem} says. Filled by `python -m helpers.course.translation fill {stem} FILE.json`."
    file.metadata = {"Language": language, "Content-Type": "text/plain; charset=utf-8"}
    for entry in known:
        given = {"msgctxt": entry.message.context, "msgid": entry.message.english, "msgstr": entry.said}
        flags = ["fuzzy"] if entry.fuzzy else []
        before = entry.before if entry.fuzzy else ""
        file.append(polib.POEntry(comment=entry.message.kind, flags=flags, previous_msgid=before or None, **given))
    with written_whole(store_of(language, stem, root / "locale")) as part:
        part.write_text(f"{file}".rstrip("\n") + "\n", encoding="utf-8", newline="\n")


def update(language: str, root: Path = ROOT) -> dict[str, int]:
    """Takes up what changed in the English pages: how many messages each stem lacks."""
    lacking = {}
    for stem in sources(root):
        known = entries(stem, language, root)
        write_store(stem, language, known, root)
        lacking[stem] = sum(not entry.said or entry.fuzzy for entry in known)
    return lacking


def fill(stem: str, language: str, given: dict[str, str], root: Path = ROOT) -> list[str]:
    """Stores the translations that are faithful; what is wrong with the others, one sentence each."""
    known = {entry.name: entry for entry in entries(stem, language, root)}
    refused = [f"{name}: {stem} has no such message; ask todo again" for name in given if name not in known]
    for name, said in given.items():
        if name in known:
            findings = unfaithful(known[name].message, said) if said.strip() else ["it says nothing"]
            refused += [f"{name}: {finding}" for finding in findings]
            if not findings:
                known[name] = TranslatedMessage(known[name].message, said)
    write_store(stem, language, known.values(), root)
    return refused


# The check


def whole(language: str, root: Path = ROOT) -> list[str]:
    """The stems that have to be whole."""
    words = (root / "locale" / language / "whole.txt").read_text(encoding="utf-8").split()
    return list(sources(root)) if "all" in words else words


def faults_of(stem: str, language: str, root: Path = ROOT, *, complete: bool = True) -> list[str]:
    """What is wrong with a stem's translation; with `complete` also what lacks or is doubtful."""
    found, known = [], entries(stem, language, root)
    for entry in known:
        place = f"{stem}, {entry.message.context} ({entry.name})"
        if not entry.said or entry.fuzzy:
            reason = "its English has changed" if entry.fuzzy else "no translation"
            found += [f"{place}: {reason}: {entry.message.english[:60]!r}"] if complete else []
        else:
            found += [f"{place}: {finding}" for finding in unfaithful(entry.message, entry.said)]
    for path in sources(root)[stem]:
        found += [f"{stem}: {finding}" for finding in unlike(path, page(path, language, root, known))]
    return found


def unlike(path: Path, made: Any) -> list[str]:
    """Where a page that was made differs from its source in more than its words."""
    if path.suffix != ".ipynb":
        return []
    pairs = zip(nbformat.read(path, as_version=4).cells, made.cells, strict=True)
    found = []
    for source, cell in ((source, cell) for source, cell in pairs if source.cell_type == "code"):
        if code_alone(source.source) != code_alone(cell.source):
            found.append(f"the code of cell {cell.id} is no longer the same")
        longest = max(map(len, cell.source.splitlines() or [""]))
        if longest > max(LONGEST_LINE, *map(len, source.source.splitlines() or [""])):
            found.append(f"cell {cell.id} has a line of {longest} characters, and {LONGEST_LINE} fit")
    return found


# The pages


def page(
    path: Path,
    language: str,
    root: Path = ROOT,
    known: Iterable[TranslatedMessage] | None = None,
    where: Callable[[Path], Path] | None = None,
) -> Any:
    """A page in a language; what is not translated yet stays in English.

    `known` spares reading its store again; `where` says where a page's translation lies, for its links.
    """
    known = entries(stem_of(path), language, root) if known is None else known
    where = where or (lambda source: target_of(source, language, root))
    said = {(entry.message.context, entry.message.english): shown(entry) for entry in known}
    made = said_anew(path, lambda message: said[message.context, message.english])
    pages = [page for paths in sources(root).values() for page in paths]

    def anchored(target: Path) -> dict[str, str]:
        return anchors(target, language, root) if target in pages else {}

    if path.suffix != ".ipynb":
        return relinked(made, path, where, pages, anchored)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, path, where, pages, anchored)
    return made


def shown(entry: TranslatedMessage) -> str:
    """What a page shows of an entry: its translation, or the English while that lacks or is doubtful."""
    return entry.said if entry.said and not entry.fuzzy else entry.message.english


def anchors(path: Path, language: str, root: Path = ROOT) -> dict[str, str]:
    """The anchors of a page's headings, English → translated."""
    headings = [entry for entry in entries(stem_of(path), language, root) if entry.message.kind == "heading"]
    return {slug(entry.message.english): slug(shown(entry)) for entry in headings}


def is_touched(target: Path, text: str, before: str | None) -> bool:
    """Whether a made notebook was changed since, so that it is somebody's work by now."""
    if target.suffix != ".ipynb" or not target.exists():
        return False
    return _digest(target.read_text(encoding="utf-8")) not in (before, _digest(text))


def make_pages(language: str, root: Path = ROOT) -> list[Path]:
    """Writes all pages of a language; the notebooks that were left as they are, since somebody worked in them."""
    record = root / "build" / f"translated-{language}.json"
    done = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    left = []
    for stem, paths in sources(root).items():
        if stem == "site":  # made with the site
            continue
        known = entries(stem, language, root)
        for path in paths:
            made, target = page(path, language, root, known), target_of(path, language, root)
            text = nbformat.writes(made) + "\n" if path.suffix == ".ipynb" else made
            name = target.relative_to(root).as_posix()
            if is_touched(target, text, done.get(name)):
                left.append(target)
                continue
            with written_whole(target) as part:
                part.write_text(text, encoding="utf-8", newline="\n")
            done[name] = _digest(text)
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps(done, indent=1), encoding="utf-8")
    return left


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# The command line


def todo(stem: str, language: str, root: Path = ROOT, *, everything: bool = False) -> list[dict[str, str]]:
    """What a translator gets: id, kind, place and English of each message that lacks a translation, or of all."""
    asked = []
    for entry in entries(stem, language, root):
        if entry.said and not entry.fuzzy and not everything:
            continue
        row = {"id": entry.name, "kind": entry.message.kind, "where": entry.message.context}
        row |= {"english": entry.message.english}
        row |= {"english before": entry.before} if entry.fuzzy else {}
        asked.append(
            row | ({"translation" if not entry.fuzzy else "translation before": entry.said} if entry.said else {})
        )
    return asked


def read_filled(path: Path) -> dict[str, str]:
    """What a translator gave: {id: translation}, or rows with `id` and `translation`."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        rows = given if isinstance(given, dict) else {row["id"]: row.get("translation", "") for row in given}
        return {str(name): str(said) for name, said in rows.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path.name} cannot be read: {error!r}.", "Give {id: translation} as JSON.") from error


def tell_faults(stems: Iterable[str], language: str) -> int:
    """Prints what is wrong with stems; returns 1 if anything is."""
    found = [fault for stem in stems for fault in faults_of(stem, language, complete=True)]
    print("\n".join(found) or f"{language}: nothing is wrong.")
    return 1 if found else 0


def everything(language: str) -> int:
    """What `course.py translate` does: takes up changes, writes the pages, says what lacks."""
    lacking = {stem: count for stem, count in update(language).items() if count}
    for path in make_pages(language):
        print(f"{path.relative_to(ROOT)} was left as it is, since somebody worked in it; remove it to get it anew.")
    print(
        f"{language}: the pages are written. {sum(lacking.values())} messages lack a translation: {lacking or 'none'}."
    )
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.course.translation", description="Translate the course.")
    parser.add_argument("--language", default="sv", help="its code; sv without it")
    commands = parser.add_subparsers(dest="command")
    for name in ("update", "todo", "fill", "check", "make"):
        command = commands.add_parser(name)
        if name in ("todo", "fill"):
            command.add_argument("stem")
        if name == "todo":
            command.add_argument("--all", action="store_true", help="also what is translated")
        elif name == "fill":
            command.add_argument("file", type=Path)
        elif name == "check":
            command.add_argument("stems", nargs="*", help="all that have to be whole without one")
    asked = parser.parse_args(arguments)
    try:
        return _command(asked)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1


def _command(asked: argparse.Namespace) -> int:
    language = asked.language
    if asked.command == "todo":
        print(json.dumps(todo(asked.stem, language, everything=asked.all), ensure_ascii=False, indent=1))
    elif asked.command == "fill":
        given = read_filled(asked.file)
        refused = fill(asked.stem, language, given)
        names = {line.partition(":")[0] for line in refused}
        left = len(todo(asked.stem, language))
        print("\n".join([*refused, f"{len(given) - len(names)} stored, {len(names)} refused, {left} still to do."]))
        return 1 if refused else 0
    elif asked.command == "check":
        return tell_faults(asked.stems or whole(language), language)
    elif asked.command == "update":
        print(json.dumps(update(language), indent=1))
    elif asked.command == "make":
        make_pages(language)
    else:
        return everything(language)
    return 0


if __name__ == "__main__":
    sys.exit(main())
