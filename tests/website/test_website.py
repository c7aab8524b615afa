"""The site: its pages are gathered whole, its tables come from data, nothing reaches outside, and it builds."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers import catalog
from helpers.course import translation
from helpers.course.localised import LINK, slug
from helpers.data import ROOT
from helpers.errors import CourseError, DamagedFile
from website import build, gather, links, tables

LANGUAGES = ["en", *translation.translated_languages()]


@pytest.fixture(scope="module", params=LANGUAGES)
def gathered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages of a language, as Sphinx gets them."""
    folder = tmp_path_factory.mktemp("source")
    gather.gather(request.param, folder)
    return folder


def headings(path: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"(?m)^#+ (.+?)\s*$", text)}


def text_of(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_links_between_pages_lead_somewhere_in_every_language(gathered: Path) -> None:
    broken = []
    for path in [*gathered.rglob("*.md"), *gathered.rglob("*.ipynb")]:
        for match in LINK.finditer(text_of(path)):
            name, _, anchor = (match["target"] or match["named"] or "").partition("#")
            if match["code"] or re.match(r"[a-z]+:", name) or "{" in name:
                continue
            target = path.parent / name if name else path
            known = not anchor or target.suffix != ".md" or anchor in headings(target)
            broken += [] if target.is_file() and known else [f"{path.relative_to(gathered)}: {match[0]}"]
    assert broken == []


def test_every_page_stands_in_the_contents(gathered: Path) -> None:
    contents = (gathered / "index.md").read_text(encoding="utf-8")
    stems = {path.stem for folder in ("lessons", "docs", "api") for path in (gathered / folder).glob("*.md")}
    assert [stem for stem in stems if f"/{stem}" not in contents] == []


def test_a_solution_is_folded_below_its_check_and_pictures_are_told(gathered: Path) -> None:
    cells = nbformat.read(gathered / "notebooks" / "00_start.ipynb", as_version=4).cells
    place = next(number for number, cell in enumerate(cells) if "check(tokens_for" in cell.source)
    assert "def tokens_for(words: int)" in cells[place + 1].source
    assert [c.id for c in cells if "alt" in c.metadata and c.metadata.mystnb["image"]["alt"] != c.metadata.alt] == []


def test_the_catalogs_table_holds_every_card_by_its_numbers() -> None:
    table = tables.models(str)
    assert [card.name for card in catalog.cards() if f'<th scope="row">{card.name}</th>' not in table] == []
    assert f'data-value="{catalog.card("phi-4-mini").parameters}"' in table


@pytest.mark.parametrize("name", ["ladder", "reasoning", "speculation", "roads"])
def test_a_table_of_results_has_rows_of_one_width(name: str) -> None:
    for block in tables.MADE[name](str).split("\n\n"):
        rows = block.splitlines()
        assert len(rows) > 3
        assert len({row.count("|") for row in rows}) == 1


def test_a_front_modules_page_has_every_public_name_and_its_examples_as_code() -> None:
    page = tables.api_pages()["catalog"]
    assert "## `card`" in page
    assert '```pycon\n>>> card("microsoft/Phi-3.5-mini-instruct")' in page


def test_what_reaches_outside_and_what_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.example/x.js"></script><a href="https://example.org">fine</a>'
        '<a href="b.html#there">fine</a><a href="b.html#gone">x</a><a href="c.html">x</a>'
        '<img src="b.html" alt="a title">'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "s.css").write_text("a { background: url('//fonts.example/f.woff') }")
    assert links.faults(tmp_path) == [
        "a.html loads https://cdn.example/x.js",
        "s.css loads by its style //fonts.example/f.woff",
        "a.html shows b.html without words",
        "a.html links to b.html#gone",
        "a.html links to c.html",
    ]


def test_the_front_door_leads_to_every_language() -> None:
    door = build.front_door({"en": "English", "fi": "Suomi"})
    assert '["en", "fi"]' in door
    assert '<a href="fi/index.html" lang="fi">Suomi</a>' in door


@pytest.mark.fault("set-up")
@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a shell script")
def test_a_script_of_others_that_is_not_what_was_promised_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\necho altered > {tmp_path}/mathjax-3.2.2.tgz\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(DamagedFile, match="not what was promised"):
        build.fetch_package("mathjax", *build.PACKAGES["mathjax"], tmp_path)
    assert list(tmp_path.iterdir()) == [npm]


def test_without_npm_the_next_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CourseError, match=r"Install Node\.js"):
        build.fetch_package("mathjax", *build.PACKAGES["mathjax"], tmp_path)


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="python3 course.py site has not run here")
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not here")
def test_the_site_builds_without_a_warning_and_reaches_nothing_outside() -> None:
    done = subprocess.run([sys.executable, "-m", "website.build"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lesson = (build.SITE / "html" / "en" / "lessons" / "00_start.html").read_text(encoding="utf-8")
    assert all(part in lesson for part in ('class="term', 'class="mermaid"', 'href="../../sv/lessons/00_start.html"'))
