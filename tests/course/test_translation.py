"""Translations: what is a message, what may not change, how a store follows its English, and whole languages."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from helpers.course import translation
from helpers.course.faithful import unfaithful
from helpers.course.messages import PageMessage, code_alone, code_pieces, markdown_pieces
from helpers.data import ROOT

CELL = '''# how many
def count(word):
    """How long a word is."""
    return len(word)  # letters


print(f"{count('sea')} letters in", chat.say("What is the sea?"))
assert count("sea") == 3, "not three"
'''
LESSON = """# What is it?

One line
and a second, with `code` and [more](02_b.md#a-part). It is 1,500 metres.

- one
- two

```python
run()  # starts it
```
"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of two lessons and a notebook, with an empty Swedish store."""
    for folder in ("lessons", "notebooks", "locale/sv"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "locale/sv/whole.txt").write_text("01_a\n")
    (tmp_path / "README.md").write_text("# A course\n")
    (tmp_path / "lessons/01_a.md").write_text(LESSON)
    (tmp_path / "lessons/02_b.md").write_text("# The other\n\n## A part\n")
    cells = [nbformat.v4.new_markdown_cell("Read [it](../lessons/01_a.md)."), nbformat.v4.new_code_cell(CELL)]
    for number, cell in enumerate(cells):
        cell.id = f"c{number}"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks/01_a.ipynb")
    return tmp_path


def filled(course: Path, stem: str, **said: str) -> list[str]:
    """Fills what starts with a word with its translation."""
    rows = translation.todo(stem, "sv", course, everything=True)
    given = {row["id"]: text for row in rows for word, text in said.items() if row["english"].startswith(word)}
    return translation.fill(stem, "sv", given, course)


def test_code_gives_its_comments_docstrings_and_printed_sentences_alone() -> None:
    said = [piece.message.english for piece in code_pieces(CELL, "")]
    assert said == ["how many", "How long a word is.", "letters", "{count('sea')} letters in", "not three"]


def test_a_page_gives_headings_paragraphs_on_one_line_lists_and_comments() -> None:
    said = [(piece.message.kind, piece.message.english[:15]) for piece in markdown_pieces(LESSON, "lessons")]
    kinds = ["heading", "paragraph", "list", "comment"]
    assert said == list(zip(kinds, ["What is it?", "One line and a ", "- one\n- two", "starts it"], strict=True))


@pytest.mark.parametrize(
    ("kind", "english", "said", "finding"),
    [
        ("paragraph", "It has 1,500.5 metres.", "Den har 1\u00a0500,5 meter.", ""),
        ("paragraph", "It has 1,500 metres.", "Den har 1,500 meter.", "numbers"),
        ("paragraph", "See `open_chat`.", "Se `öppna_chatt`.", "code"),
        ("paragraph", "See [it](a.md).", "Se [den](b.md).", "links"),
        ("paragraph", r"$\text{rate} \le b$", r"$\text{takt} \le b$", ""),
        ("paragraph", r"$\text{rate} \le b$", r"$\text{takt} \le c$", "formulas"),
        ("printed", "{n:,} words", "{n} ord", "placeholders"),
        ("printed", "so ", "så", "spaces"),
        ("printed", "so", 'så "här"', 'no "'),
        ("list", "- one\n- two", "- ett och två", "items"),
        ("table", "| a | b |\n|---|---|", "| aa |\n|---|---|", "rows"),
        ("html", "<details><summary>Hint</summary>", "Ledtråd", "tags"),
        ("heading", "In short", "## I korthet", "marks"),
        ("drawing", "flow\nmore", "flöde", "lines"),
    ],
)
def test_what_a_translation_may_not_change_is_named(kind: str, english: str, said: str, finding: str) -> None:
    found = "; ".join(unfaithful(PageMessage("", kind, english), said))
    assert finding in found if finding else not found


def test_an_unfaithful_translation_is_refused_and_a_faithful_one_kept(course: Path) -> None:
    refused = filled(course, "01_a", One="En rad.", What="Vad är det?")
    assert {line.partition(": ")[2].partition(":")[0] for line in refused} == {"code", "links", "numbers"}
    assert "Vad är det?" in translation.page(course / "lessons/01_a.md", "sv", course)


def test_a_translation_whose_english_changed_is_doubtful_and_not_shown(course: Path) -> None:
    filled(course, "01_a", What="Vad är det?")
    (course / "lessons/01_a.md").write_text(LESSON.replace("# What is it?", "# What is it now?"))
    translation.update("sv", course)
    (row,) = [row for row in translation.todo("01_a", "sv", course) if row["kind"] == "heading"]
    assert row["english before"] == "What is it?"
    assert "# What is it now?" in translation.page(course / "lessons/01_a.md", "sv", course)


def test_a_translation_follows_its_text_to_another_place(course: Path) -> None:
    filled(course, "01_a", starts="startar den")
    (course / "lessons/01_a.md").write_text(LESSON.replace("```python", "## How\n\n```python"))
    assert "# startar den" in translation.page(course / "lessons/01_a.md", "sv", course)


def test_the_readme_says_the_same_whatever_the_checkout_is_called(course: Path) -> None:
    elsewhere = course.rename(course.with_name("another"))
    assert [row.context for row in translation.messages([elsewhere / "README.md"])] == ["README · A course"]


def test_links_lead_from_the_translation_to_translations_and_their_headings(course: Path) -> None:
    filled(course, "02_b", A="En del")
    assert "(02_b.md#en-del)" in translation.page(course / "lessons/01_a.md", "sv", course)
    assert (
        "(../../lessons/sv/01_a.md)" in translation.page(course / "notebooks/01_a.ipynb", "sv", course).cells[0].source
    )


def test_a_translated_cell_has_the_same_code(course: Path) -> None:
    filled(course, "01_a", how="hur många", letters="bokstäver", **{"not three": "inte tre"})
    cell = translation.page(course / "notebooks/01_a.ipynb", "sv", course).cells[1].source
    assert all(said in cell for said in ("# hur många", "# bokstäver", '"inte tre"'))
    assert code_alone(cell) == code_alone(CELL)


def test_a_line_of_code_that_grew_too_long_is_found(course: Path) -> None:
    filled(course, "01_a", letters="bokstäver " * 8 + "till")
    assert any("has a line of" in fault for fault in translation.faults_of("01_a", "sv", course))


def test_a_notebook_that_somebody_worked_in_is_left(course: Path) -> None:
    made = course / "notebooks/sv/01_a.ipynb"
    assert translation.make_pages("sv", course) == []
    made.write_text(made.read_text().replace("how many", "my note"))
    assert translation.make_pages("sv", course) == [made]


def test_what_is_written_twice_is_the_same(course: Path) -> None:
    translation.update("sv", course)
    before = (course / "locale/sv/01_a.po").read_bytes()
    translation.update("sv", course)
    assert (course / "locale/sv/01_a.po").read_bytes() == before


def test_a_file_that_is_no_json_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{"name": 1}]))
    assert translation.main(["fill", "00_start", str(tmp_path / "x.json")]) == 1
    assert "Give {id: translation}" in capsys.readouterr().err


@pytest.mark.parametrize("language", translation.translated_languages())
def test_a_language_is_whole_where_it_says_so_and_faithful_everywhere(language: str) -> None:
    wanted = translation.whole(language)
    faults = [
        f for stem in translation.sources() for f in translation.faults_of(stem, language, complete=stem in wanted)
    ]
    assert faults == []
    assert (ROOT / "locale" / language / "GLOSSARY.md").exists()
