"""Text read out of pictures, how well, and what is answered from it."""

from __future__ import annotations

import importlib.util
import socket

import numpy as np
import pytest
from PIL import Image

from helpers.data import stored
from helpers.errors import BackendUnavailable, InvalidInput
from helpers.records import Turn
from helpers.vision import document_qa as qa
from helpers.vision import documents, ocr
from helpers.vision import ocr as scores
from helpers.vision.documents import PageQuestion
from helpers.vision.ocr import Line, Page, read_text
from talk import fresh, scripted

TABLE = (("Product", "Stock", "Price"), ("Lamp", "12", "99"), ("Desk", "34", "250"))


def line(text: str, x: float, y: float, confidence: float = 1.0) -> Line:
    """A line of ten pixels a character, twenty high, whose upper left corner is given."""
    right, bottom = x + 10 * len(text), y + 20
    return Line(text, confidence, ((x, y), (right, y), (right, bottom), (x, bottom)))


def page(*lines: Line) -> Page:
    return Page(ocr._rows([*lines]))


def question(text: str, answer: str = "", form: str = "lookup") -> PageQuestion:
    return PageQuestion(text, answer, form, "plain")


def as_page(cells) -> Page:
    """What a perfect reader would make of a table."""
    return page(
        *(line(t, 200 * c + 100 - 5 * len(t), 40 * r) for r, row in enumerate(cells) for c, t in enumerate(row))
    )


# Reading


@pytest.fixture(scope="module")
def receipt():
    return documents.receipt(1)


@pytest.fixture(scope="module")
def receipt_page(receipt) -> Page:
    return read_text(receipt.image)


@pytest.fixture
def already_read(monkeypatch, receipt_page):
    """The page that was read once, for tests of what comes after."""
    monkeypatch.setattr(qa, "read_text", lambda image: receipt_page)


def test_a_clean_receipt_is_read_to_the_letter_and_in_order(receipt, receipt_page):
    assert receipt_page.text == receipt.text
    assert all(line.confidence > 0.9 for line in receipt_page.lines)


def test_a_line_lies_where_it_was_drawn(receipt_page):
    left, right = receipt_page.rows[1]
    assert left.box[0][0] == pytest.approx(documents.MARGIN, abs=6)
    assert right.box[1][0] == pytest.approx(360 - documents.MARGIN, abs=6)


def test_a_path_and_an_array_are_read_like_a_picture(tmp_path):
    image = documents.text_page(2, sizes=(20,)).image
    image.save(tmp_path / "page.png")
    assert read_text(tmp_path / "page.png").text == read_text(np.asarray(image)).text == read_text(image).text


@pytest.mark.parametrize("degrees", [20, 90])
def test_a_page_askew_and_a_page_on_its_side_are_read_in_order(degrees):
    document = documents.text_page(3, sizes=(18, 18))
    assert read_text(documents.rotated(document.image, degrees)).text == document.text


def test_a_blank_picture_has_no_rows():
    for size in ((1, 1), (300, 20), (200, 100)):
        assert read_text(Image.new("RGB", size, "white")) == Page(())


def test_no_connection_is_opened(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    ocr._engine.cache_clear()
    assert read_text(documents.text_page(2, sizes=(20,)).image).rows


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "page.png").write_text("not a picture")
    with pytest.raises(InvalidInput):
        read_text(tmp_path / "page.png")


def test_a_missing_engine_is_a_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="rapidocr is not installed"):
        ocr._engine.__wrapped__(1)


# Order


def test_rows_are_read_from_the_top_and_from_the_left():
    read = page(line("c", 300, 52), line("b", 0, 50), line("a", 0, 0))
    assert read.text == "a\nb c"
    assert repr(read) == "Page(3 lines in 2 rows)"


def test_a_strip_on_end_runs_upwards():
    upright, tall = line("12345", 0, 0), Line("12345", 1.0, ((0, 0), (20, 0), (20, 50), (0, 50)))
    assert (upright.slope, upright.height) == (0, 20)
    assert (tall.slope, tall.height) == (pytest.approx(-np.pi / 2), 20)


def test_close_rows_do_not_run_into_one():
    assert len(page(*(line(str(n), 0, 14 * n) for n in range(6))).rows) == 6


# Scores


@pytest.mark.parametrize(
    ("one", "two", "distance"), [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("flaw", "lawn", 2), ("ab", "ba", 2)]
)
def test_the_edit_distance_by_hand(one, two, distance):
    assert scores.edit_distance(one, two) == scores.edit_distance(two, one) == distance


@pytest.mark.parametrize(
    ("read", "rate"), [("total 12", 0), ("total\n 12", 0), ("", 1), ("tota1 12", 1 / 8), ("total 12 total 12", 9 / 8)]
)
def test_the_character_error_rate_by_hand(read, rate):
    assert scores.character_error_rate(read, "total 12") == pytest.approx(rate)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(InvalidInput, match="truth"):
        scores.character_error_rate("text", " \n")
    with pytest.raises(InvalidInput, match="rotation_degrees"):
        scores.under("coffee")


def test_cells_count_only_in_their_place():
    rate = scores.cell_accuracy((("a", "c"), ("b",)), (("a", "b"), ("b", "d"), ("e", "f")))
    assert (rate.successes, rate.trials) == (2, 6)


def test_tiny_type_breaks_the_reader():
    rows = scores.under("type_size_pixels", pages=1, levels=(3, 16))
    assert list(rows["error_rate"] > 0.5) == [True, False]
    assert set(rows.columns) == {"harm", "level", "page", "characters", "error_rate"}


def test_the_plot_has_its_unit():
    import pandas as pd

    rows = [{"harm": "noise_sigma", "level": n, "page": 0, "error_rate": n / 100} for n in (0, 50, 90)]
    ax = scores.where_it_breaks(pd.DataFrame(rows))
    assert ax.get_xlabel() == "noise (grey levels)"
    assert list(ax.lines[0].get_ydata()) == [0, 50, 90]


# Answers


def test_a_table_is_rebuilt_with_its_gaps():
    read = page(*(line for row in as_page(TABLE).rows for line in row if line.text != "12"))
    assert qa.cells(read, documents.product_table()) == (TABLE[0], ("Lamp", "", "99"), TABLE[2])


def test_a_chart_gives_each_name_the_number_above_it():
    read = page(line("60", 0, 100), line("9", 100, 50), line("Mon", 95, 200), line("Tue", 195, 200))
    assert qa.cells(read, documents.bar_chart()) == (("Mon", "9"), ("Tue", ""))


def test_an_empty_page_is_answered_with_nothing():
    for make in documents.MAKERS.values():
        document = make(0)
        assert qa.cells(Page(()), document) == ()
        assert {qa.answer_by_rules(Page(()), document, q) for q in document.questions} == {""}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("What is the price of the Desk?", "250"),
        ("What is the stock of the lamp?", "12"),
        ("Which product has the lowest stock?", "Lamp"),
        ("Which product has the highest price?", "Desk"),
        ("Is it raining?", ""),
    ],
)
def test_rules_find_a_row_a_column_an_extreme(asked, answer):
    assert qa.answer_by_rules(as_page(TABLE), documents.product_table(), question(asked)) == answer


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [
        ("5.97", "5.97", True),
        ("It costs 5.97.", "5.97", True),
        ("5.97 or 8.69", "5.97", False),
        ("15.97", "5.97", False),
        ("on 2026-08-21", "2026-08-21", True),
        ("The bread.", "Bread", True),
        ("Bread, not coffee", "Bread", False),
        ("", "Bread", False),
    ],
)
def test_a_reply_is_right_where_it_says_the_answer_and_nothing_else(receipt, reply, answer, right):
    assert qa.is_right(reply, question("", answer), receipt) is right


def test_every_road_is_scored_on_the_same_questions(receipt, already_read):
    silent = qa.scored({"rules": qa.answer_by_rules, "silent": lambda *_: ""}, [receipt])
    shares = silent.groupby("road")["right"].mean()
    assert len(silent) == 2 * len(receipt.questions)
    assert shares["rules"] > 0.5 > shares["silent"] == 0
    first = qa.scored({"rules": qa.answer_by_rules}, [receipt], most=3)
    assert list(first["question"]) == [question.text for question in receipt.questions[:3]]


def test_a_page_that_was_read_before_is_not_read_again(receipt, receipt_page, monkeypatch):
    monkeypatch.setattr(qa, "read_text", lambda image: pytest.fail("it was read again"))
    rows = qa.scored({"rules": qa.answer_by_rules}, [receipt], pages=[receipt_page])
    assert len(rows) == len(receipt.questions)


def test_the_language_model_finds_a_price_in_the_text(llama, card, receipt, receipt_page):
    road = qa.by_model(fresh(llama, card))
    assert qa.is_right(road(receipt_page, receipt, receipt.questions[0]), receipt.questions[0], receipt)


def test_in_a_conversation_it_is_shown_the_page_and_no_example(receipt, receipt_page):
    chat = scripted("5.97")
    assert qa.by_model(chat, conversation=True)(receipt_page, receipt, receipt.questions[0]) == "5.97"
    heard = chat.backend.asked[0][0][-1].text
    assert "Butter: 5.97" in heard
    assert "Pen" not in heard


# A model that sees


def test_a_model_that_sees_gets_the_picture_with_each_question(receipt):
    chat = scripted(dict(receipt.cells)["Total"])
    rows = qa.ask_page(chat, receipt)
    assert [len(turns[-1].images) for turns, _ in chat.backend.asked] == [1] * len(receipt.questions)
    assert list(rows.loc[rows["right"], "question"]) == ["What is the total?", "How much did everything cost together?"]


def test_a_chat_that_was_lent_keeps_its_history(receipt, receipt_page):
    chat = scripted("Bread", history=[Turn("user", "Hi"), Turn("assistant", "Hello")])
    qa.ask_page(chat, receipt)
    qa.by_model(chat, conversation=True)(receipt_page, receipt, receipt.questions[0])
    assert [turn.text for turn in chat.history] == ["Hi", "Hello"]
    assert all(len(turns) == 1 for turns, _ in chat.backend.asked)


def test_a_model_that_sees_is_a_road_like_the_others(receipt, already_read):
    rows = qa.scored({"end to end": qa.end_to_end(scripted("Bread"))}, [receipt])
    assert rows["right"].sum() == sum(q.answer == "Bread" for q in receipt.questions)


def test_a_model_that_only_reads_is_not_shown_pictures(llama, card, receipt):
    with pytest.raises(InvalidInput, match="image"):
        qa.ask_page(fresh(llama, card), receipt)


def test_the_stored_answers_are_to_these_pages_and_are_judged_as_the_page_says():
    rows = stored("documents_04")["rows"]
    pages = [page for page in documents.collection(2, 1000) if page.kind != "bare chart"]
    asked = {
        (number, question.text): (page, question) for number, page in enumerate(pages) for question in page.questions
    }
    assert {row["model"] for row in rows} == {"qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"}
    assert len(rows) == 2 * len(asked) == 88
    for row in rows:
        page, question = asked[row["page"], row["question"]]
        assert row["right"] == qa.is_right(row["reply"], question, page)
