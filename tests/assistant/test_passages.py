"""Documents become passages that say where they stand; a file that cannot be read is named and harms no other."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from helpers.assistant import documents
from helpers.assistant.documents import SHOP, Passage, Unreadable, document_files, read_document


def passages(tmp_path: Path, name: str, text: str) -> list[Passage]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def test_markdown_is_cut_at_its_headings_and_a_passage_names_all_above_it(tmp_path):
    found = passages(tmp_path, "a.md", "# Lamps\nAll.\n## Luna\nSmall.\n### Care\nDry.\n## Vega\nLarge.\n")
    assert [(one.heading, one.text) for one in found] == [
        ("Lamps", "All."),
        ("Lamps › Luna", "Small."),
        ("Lamps › Luna › Care", "Dry."),
        ("Lamps › Vega", "Large."),
    ]


def test_a_sign_in_a_fence_is_no_heading(tmp_path):
    (found,) = passages(tmp_path, "a.md", "# Code\n```\n# a remark\n```\n")
    assert "# a remark" in found.text


def test_what_a_reader_of_markdown_never_sees_is_left_out(tmp_path):
    assert passages(tmp_path, "a.md", "Open <!-- hidden -->at nine. <!-- never closed") == [
        Passage("Open at nine.", "a.md")
    ]


def test_each_row_of_a_table_says_its_columns(tmp_path):
    (found,) = passages(tmp_path, "a.md", "| Lamp | Price |\n|---|---|\n| Luna | 24 |\n| Vega | 47 |\n")
    assert found.text == "Lamp: Luna; Price: 24\nLamp: Vega; Price: 47"


@pytest.mark.parametrize("joint", ["\n\n", "\n- ", " Then. ", " "])
def test_no_passage_is_longer_than_the_encoder_reads_and_no_word_is_lost(tmp_path, joint):
    text = joint.join(f"word{number}" for number in range(500))
    found = passages(tmp_path, "a.md", text)
    assert max(len(one.text.split()) for one in found) <= documents.LONGEST_WORDS
    assert " ".join(one.text for one in found).split() == text.split()


def test_a_short_line_by_itself_heads_plain_text(tmp_path):
    found = passages(tmp_path, "a.txt", "Opening hours\n\nFrom nine.\n\nUntil five.\n")
    assert found == [Passage("From nine.\nUntil five.", "a.txt", "Opening hours")]


def test_a_pdf_gives_its_tables_row_by_row_with_the_page():
    (first, second) = read_document(SHOP / "prices.pdf")
    assert "Lamp: Comet; Price: 18.90 euros; Weight: 95 g" in first.text
    assert second.place == "prices.pdf, page 2, Price list for spare parts"


def scanned_pdf(path: Path) -> None:
    with Image.open(SHOP / "notice.png") as page:
        page.convert("RGB").save(path, format="PDF")


def test_a_scanned_page_is_read_by_ocr_as_picture_and_in_a_pdf(tmp_path):
    scanned_pdf(tmp_path / "notice.pdf")
    (seen,) = read_document(SHOP / "notice.png")
    (paged,) = read_document(tmp_path / "notice.pdf")
    assert seen.heading == paged.heading == "Repair mornings"
    assert "10 to 13" in seen.text
    assert paged.page == 1


def many_pages() -> bytes:
    from pypdf import PdfWriter

    book, file = PdfWriter(), io.BytesIO()
    for _ in range(documents.MOST_PAGES + 1):
        book.add_blank_page(72, 72)
    book.write(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.md", b"caf\xe9", "no UTF-8"),
        ("a.txt", b"a\0b", "no text has"),
        ("a.txt", b"a " * 600_000, "characters"),
        ("a.txt", b"a" * (documents.MOST_BYTES + 1), "MiB"),
        ("a.pdf", b"%PDF-1.7 and then nothing", "damaged"),
        ("a.pdf", many_pages, "201 pages"),
        ("a.png", b"\x89PNG\r\n\x1a\n and then nothing", "not an image|damaged"),
        ("a.exe", b"MZ", "no document"),
        ("gone.md", None, "cannot be opened"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path, name, data, why):
    if data is not None:
        (tmp_path / name).write_bytes(data() if callable(data) else data)
    with pytest.raises(Unreadable, match=why):
        read_document(tmp_path / name)


def test_a_pdf_that_takes_too_long_is_left(monkeypatch):
    monkeypatch.setattr(documents, "PDF_SECONDS", 0.01)
    with pytest.raises(Unreadable, match="within"):
        read_document(SHOP / "prices.pdf")


def test_a_folder_gives_its_documents_and_follows_no_link_out(tmp_path):
    outside, folder = tmp_path / "secret.md", tmp_path / "docs"
    outside.write_text("secret")
    (folder / "in" / ".hidden").mkdir(parents=True)
    for name in ("b.md", "in/a.txt", "in/.hidden/c.md", "program.py"):
        (folder / name).write_text("text")
    (folder / "link.md").symlink_to(outside)
    found, left_out = document_files(folder)
    assert [path.relative_to(folder).as_posix() for path in found] == ["b.md", "in/a.txt"]
    assert left_out == []


def test_folders_too_deep_and_files_too_many_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MOST_DEPTH", 1)
    monkeypatch.setattr(documents, "MOST_FILES", 1)
    (tmp_path / "one" / "two").mkdir(parents=True)
    for name in ("a.md", "one/b.md", "one/two/c.md"):
        (tmp_path / name).write_text("text")
    found, left_out = document_files(tmp_path)
    assert [path.name for path in found] == ["a.md"]
    assert [one.source for one in left_out] == ["one/two", "one/b.md"]
