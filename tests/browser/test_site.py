"""The built site in a real browser: it is found in, read in two languages and two themes, and usable by everybody."""

from __future__ import annotations

import functools
import http.server
from collections.abc import Iterator
from typing import Any

import pytest

from browser_pages import focused, keyboard_faults, opened, run_all, tabbed
from helpers.course import translation
from waiting import serving
from website import build

pytestmark = [pytest.mark.engine, pytest.mark.nightly]
LANGUAGES = ["en", *translation.translated_languages()]
AXE = (
    "4.14.1",
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    "package/axe.min.js",
)
SERIOUS = """async within => (await axe.run(within || document, { resultTypes: ['violations'] })).violations
    .filter(one => ['serious', 'critical'].includes(one.impact))
    .map(one => `${one.id}: ${one.nodes[0].html.slice(0, 160)} (${one.nodes.length})`)"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of a freshly built site."""
    assert build.build() == 0
    handler = functools.partial(Quiet, directory=str(build.SITE / "html"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core, as one script."""
    return build.fetch_package("axe-core", *AXE, build.SITE / "npm").read_text(encoding="utf-8")


@pytest.mark.parametrize(("locale", "language"), [("sv-SE", "sv"), ("fr-FR", "en")])
def test_the_front_door_leads_to_the_readers_language(locale: str, language: str, new_page: Any, site: str) -> None:
    page = new_page(locale=locale)
    page.goto(site)
    page.wait_for_url(f"**/{language}/index.html")


def test_a_word_is_found(new_page: Any, site: str) -> None:
    page = new_page()
    page.goto(f"{site}/en/search.html?q=quantization")
    page.locator("#search-results li").first.wait_for()


def test_the_language_and_the_theme_change_and_the_page_stays(new_page: Any, site: str) -> None:
    page = new_page(color_scheme="light")
    page.goto(f"{site}/en/lessons/00_start.html")
    page.get_by_role("link", name="Svenska").click()
    page.wait_for_url("**/sv/lessons/00_start.html")
    assert page.locator("html").get_attribute("lang") == "sv"
    page.locator("button.theme-switch-button:visible").click()
    page.locator("button.theme-change-button[data-mode=dark]:visible").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "theme", "width"),
    [("en/try", "light", 1200), ("en/models", "dark", 1200), ("sv/notebooks/01_slm_vs_llm", "dark", 390)],
)
def test_the_keyboard_comes_to_every_control_and_is_seen_there(
    name: str, theme: str, width: int, new_page: Any, site: str
) -> None:
    page = new_page(color_scheme=theme, viewport={"width": width, "height": 900})
    page.goto(f"{site}/{name}.html", wait_until="networkidle")
    assert keyboard_faults(page) == []


def test_a_word_is_found_and_the_language_and_theme_change_by_keys_alone(new_page: Any, site: str) -> None:
    page = new_page(color_scheme="light")
    page.goto(f"{site}/en/lessons/00_start.html", wait_until="networkidle")
    tabbed(page, ".search-button-field")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.matches('dialog input')")
    page.keyboard.type("quantization")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html*", wait_until="networkidle")
    page.locator("#search-results a").first.wait_for()
    tabbed(page, "#search-results a")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "search" not in address)
    tabbed(page, "a.language")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sv/**")
    tabbed(page, ".theme-switch-button")
    for key in ("Enter", *["ArrowDown"] * 3, "Enter"):
        page.keyboard.press(key)
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert focused(page, ".theme-switch-button")


def test_a_solution_unfolds_and_folds_and_the_next_page_comes_by_keys_alone(new_page: Any, site: str) -> None:
    page = new_page()
    page.goto(f"{site}/en/notebooks/00_start.html", wait_until="networkidle")
    tabbed(page, "article summary")
    for key, is_open in (("Enter", True), ("Space", False)):
        page.keyboard.press(key)
        assert page.evaluate("() => document.activeElement.parentElement.open") is is_open
    tabbed(page, "a.right-next")
    page.keyboard.press("Enter")
    page.wait_for_url("**/lessons/01_slm_vs_llm.html")


def test_a_phones_contents_open_and_close_by_keys_alone(new_page: Any, site: str) -> None:
    page = new_page(viewport={"width": 390, "height": 800})
    page.goto(f"{site}/sv/lessons/00_start.html", wait_until="networkidle")
    tabbed(page, ".primary-toggle")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.matches('dialog[open] a')")
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    assert focused(page, ".primary-toggle")
    page.keyboard.press("Enter")
    tabbed(page, "dialog[open] a[href$='try.html']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sv/try.html")


@pytest.mark.parametrize("width", [1200, 800, 390])
@pytest.mark.parametrize("name", ["index", "try", "models", "notebooks/00_start", "lessons/01_slm_vs_llm"])
def test_a_page_fits_a_laptop_and_a_phone(name: str, width: int, new_page: Any, site: str) -> None:
    page = new_page(viewport={"width": width, "height": 900})
    page.goto(f"{site}/en/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("language", "theme"), [(code, theme) for code in LANGUAGES for theme in ("light", "dark")])
def test_axe_finds_nothing_serious_on_any_page(language: str, theme: str, new_page: Any, site: str, axe: str) -> None:
    folder = build.SITE / "html" / language
    page = new_page(color_scheme=theme)
    found = {}
    for path in sorted(path for path in folder.rglob("*.html") if not path.parts[-2].startswith("_")):
        name = path.relative_to(folder).as_posix()
        page.goto(f"{site}/{language}/{name}")
        page.wait_for_timeout(400)
        page.add_script_tag(content=axe)
        found[name] = page.evaluate(SERIOUS)
    assert {name: what for name, what in found.items() if what} == {}


def test_axe_finds_nothing_serious_of_ours_in_jupyterlab(new_page: Any, lab: str, axe: str) -> None:
    page = opened(new_page, lab.format("tried"))
    run_all(page, 120)
    page.add_script_tag(content=axe)
    # Editors are JupyterLab's own, and the handles of sliders ipywidgets'; ours is what cells say and show.
    ours = {"include": [[".jp-RenderedMarkdown"], [".jp-OutputArea-output"]], "exclude": [[".noUi-handle"]]}
    assert page.evaluate(SERIOUS, ours) == []
