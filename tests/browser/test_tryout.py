"""The page to try, in a real browser: it says what the course's own Python says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser_pages import focused, keyboard_faults, tabbed
from helpers import anatomy, catalog
from helpers.models import sources
from website import tools

pytestmark = pytest.mark.engine  # it reads the embedded model's file
STATIC = Path(tools.__file__).with_name("static")
TEXTS = [
    "",
    "The capital of Sweden",
    "  two  spaces\n\n\nand lines\t",
    "1,656,571 or 2²",
    "Göteborg är stort",
    "it's 5'll",
    "日本語 🙂",
]


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page with the three tools and nothing else, from files alone."""
    folder = tmp_path_factory.mktemp("tools")
    for name in ("course.js", "tools.js"):
        shutil.copy(STATIC / name, folder)
    tools.write_scripts(folder)
    boxes = "".join(f'<div data-tool="{name}"></div>' for name in ("explorer", "tokenizer", "calculator"))
    html = f'<!doctype html><html lang="en"><meta charset="utf-8"><script src="course.js"></script>{boxes}'
    (folder / "page.html").write_text(html + tools.words(str), encoding="utf-8")
    page = browser.new_page()
    page.goto((folder / "page.html").as_uri())
    page.wait_for_selector(".token")
    yield page
    page.close()


def test_a_text_becomes_the_tokens_that_the_models_own_tokenizer_makes(page: Any) -> None:
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(sources.folder(catalog.card(tools.TOKENIZER_MODEL)))
    assert [page.evaluate("text => courseTokens(text)", text) for text in TEXTS] == [own.tokenize(t) for t in TEXTS]


def test_the_shares_are_a_whole_at_every_temperature_and_a_choice_is_written(page: Any) -> None:
    box = page.locator("[data-tool=explorer]")
    for place in ("0", "4", "9"):
        box.locator("input").fill(place)
        shares = [float(text.removesuffix(" %")) for text in box.locator(".share").all_inner_texts()]
        assert sum(shares) == pytest.approx(100, abs=0.6)
    box.locator("button.choice").first.press("Enter")
    assert box.locator("p").first.inner_text() == "The capital of Sweden is Stockholm"


def test_the_tools_are_used_by_keys_alone(page: Any) -> None:
    box, keys = page.locator("[data-tool=explorer]"), page.keyboard
    tabbed(page, "[data-tool=explorer] input")
    keys.press("Home")
    shares = box.locator(".share").all_inner_texts()
    keys.press("ArrowRight")
    assert box.locator("output").inner_text() == "0.4"
    assert box.locator(".share").all_inner_texts() != shares
    tabbed(page, "button.choice")
    while focused(page, "button.choice"):  # each choice goes on to the next, and the last to the way back
        keys.press("Space")
    keys.press("Enter")
    assert box.locator("p").first.inner_text() == "The capital of Sweden is"
    tabbed(page, "textarea")
    keys.press("Control+A")
    keys.type("Hi there")
    assert page.locator(".token").all_inner_texts() == ["Hi", "·there"]


def test_the_keyboard_comes_to_every_control_of_the_tools_and_is_seen_there(page: Any) -> None:
    page.reload()
    page.wait_for_selector(".token")
    assert keyboard_faults(page) == []


def test_the_calculator_gives_the_bound_that_the_course_computes(page: Any) -> None:
    box = page.locator("[data-tool=calculator]")
    box.locator("select").first.select_option(label="Phi-4-mini")
    row = box.locator("tr", has_text=anatomy.DEVICES["laptop"].title).inner_text()
    bound = anatomy.predicted_decode(
        anatomy.bytes_per_token("phi-4-mini", "Q4_K", 1024), anatomy.DEVICES["laptop"].bandwidth
    )
    assert float(re.search(r"at most ([\d.]+)", row)[1]) == pytest.approx(bound, rel=0.02)
