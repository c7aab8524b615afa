"""What a learner meets in JupyterLab, in a real browser: cells run, exercises judge, the box answers, sliders move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from browser_pages import IDLE, focused, opened, run_all, tabbed
from helpers.data import ROOT
from waiting import until

pytestmark = pytest.mark.engine
STEMS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
CUT = """() => [...document.querySelectorAll('.jp-CodeCell .cm-scroller')]
    .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)"""


@pytest.fixture(scope="module")
def page(browser: Any, lab: str) -> Iterator[Any]:
    """A notebook of the course's cells, run from top to bottom."""
    page = opened(browser.new_page, lab.format("tried"))
    run_all(page, 120)
    yield page
    page.close()


def cell(page: Any, number: int) -> Any:
    return page.locator(".jp-Notebook .jp-Cell").nth(number)


def test_lab_asks_nothing_and_its_cells_run_without_an_error(page: Any) -> None:
    assert page.locator(".Toastify__toast, .jp-Dialog").all_inner_texts() == []
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert "| Stockholm|" in cell(page, 1).inner_text()


def test_an_exercise_that_is_solved_changes_its_verdict(page: Any) -> None:
    assert "Not tried yet" in cell(page, 4).inner_text()
    cell(page, 3).locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text("def seconds(first, tokens, rate):\n    return first + (tokens - 1) / (rate or 1)")
    page.keyboard.press("Shift+Enter")
    cell(page, 4).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    cell(page, 4).get_by_text("Passed: 3 of 3").wait_for()


def test_the_chat_box_answers_stops_within_two_seconds_and_goes_on(page: Any) -> None:
    box = cell(page, 5)
    text, writes = box.locator("input[type=text]"), box.get_by_text("writing …")
    text.fill("Tell me a long story about the sea.")
    text.press("Enter")
    writes.wait_for()
    pressed = time.monotonic()
    box.get_by_role("button", name="Stop").click()
    writes.wait_for(state="detached", timeout=2_000)
    assert time.monotonic() - pressed < 3
    text.fill("What is the capital of Sweden?")
    text.press("Enter")
    box.get_by_text("The capital of Sweden is Stockholm").wait_for()


def test_the_chat_box_is_used_by_keys_alone(page: Any) -> None:
    box, keys, writes = cell(page, 5), page.keyboard, cell(page, 5).get_by_text("writing …")
    assert until(box.get_by_role("button", name="Send").is_enabled, 60)
    box.get_by_role("button", name="Clear").click()  # after what was said before, a story may be told in a sentence
    box.get_by_text("Stockholm").wait_for(state="detached")
    cell(page, 4).focus()  # where somebody stands who came down the notebook
    keys.press("ArrowDown")
    tabbed(page, "input.widget-input", most=5)
    keys.type("Tell me a long story about the sea.")
    page.wait_for_timeout(500)  # fingers are slower, too
    tabbed(page, "button", most=1)
    keys.press("Space")  # Send, which goes grey while the box writes
    writes.wait_for()
    assert until(lambda: focused(page, "input.widget-input"), 10)
    tabbed(page, "button", most=1)
    keys.press("Enter")
    box.get_by_text("ended by: cancelled").wait_for()
    assert until(lambda: focused(page, "input.widget-input"), 10)
    keys.type("Which colours has the sea?")
    page.wait_for_timeout(500)
    keys.press("Enter")
    box.get_by_text("Which colours has the sea?").wait_for()


def test_a_slider_moves_the_distribution_by_keys_alone(page: Any) -> None:
    picture = cell(page, 6).locator("img")
    before = picture.get_attribute("src")
    handle = cell(page, 6).locator(".noUi-handle").first
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert until(lambda: picture.get_attribute("src") != before, 30)


@pytest.mark.parametrize("stem", [pytest.param(s, marks=[] if s == STEMS[0] else pytest.mark.nightly) for s in STEMS])
def test_no_line_of_code_is_cut(stem: str, new_page: Any, lab: str) -> None:
    page = opened(new_page, lab.format(stem))
    for width in (1200, 800):
        page.set_viewport_size({"width": width, "height": 1200})
        page.wait_for_function("width => document.querySelector('.jp-Notebook').clientWidth < width", arg=width)
        page.wait_for_timeout(500)  # the editors' lines are wrapped anew
        assert page.evaluate(CUT) == []
        assert page.locator(".jp-Cell").first.bounding_box()["width"] < min(1000, width)


@pytest.mark.nightly
def test_notebook_00_runs_whole(new_page: Any, lab: str) -> None:
    page = opened(new_page, lab.format("00_start"))
    run_all(page, 280)
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    page.wait_for_selector(IDLE)
