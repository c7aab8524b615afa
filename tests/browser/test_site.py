"""The built site in a real browser: it is found in, read in two languages and two themes, and usable by everybody."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from browser_pages import opened, run_all
from website import build

pytestmark = [pytest.mark.engine, pytest.mark.nightly]
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
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core, as one script."""
    return build.fetch_package("axe-core", *AXE, build.SITE / "npm").read_text(encoding="utf-8")


def test_a_word_is_found(browser: Any, site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/en/search.html?q=quantization")
    page.locator("#search-results li").first.wait_for()
    page.close()


def test_the_language_and_the_theme_change_and_the_page_stays(browser: Any, site: str) -> None:
    page = browser.new_page(color_scheme="light")
    page.goto(f"{site}/en/lessons/00_start.html")
    page.get_by_role("link", name="Svenska").click()
    page.wait_for_url("**/sv/lessons/00_start.html")
    assert page.locator("html").get_attribute("lang") == "sv"
    page.locator("button.theme-switch-button:visible").click()
    page.locator("button.theme-change-button[data-mode=dark]:visible").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.close()


@pytest.mark.parametrize("width", [1200, 800, 390])
@pytest.mark.parametrize("name", ["index", "try", "models", "notebooks/00_start", "lessons/01_slm_vs_llm"])
def test_a_page_fits_a_laptop_and_a_phone(name: str, width: int, browser: Any, site: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{site}/en/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("en", "dark"), ("sv", "light")])
def test_axe_finds_nothing_serious_on_any_page(language: str, theme: str, browser: Any, site: str, axe: str) -> None:
    folder = build.SITE / "html" / language
    page = browser.new_page(color_scheme=theme)
    found = {}
    for path in sorted(path for path in folder.rglob("*.html") if not path.parts[-2].startswith("_")):
        name = path.relative_to(folder).as_posix()
        page.goto(f"{site}/{language}/{name}")
        page.wait_for_timeout(400)
        page.add_script_tag(content=axe)
        found[name] = page.evaluate(SERIOUS)
    page.close()
    assert {name: what for name, what in found.items() if what} == {}


def test_axe_finds_nothing_serious_of_ours_in_jupyterlab(browser: Any, lab: str, axe: str) -> None:
    page = opened(browser, lab.format("tried"))
    run_all(page, 120)
    page.add_script_tag(content=axe)
    # Editors are JupyterLab's own, and the handles of sliders ipywidgets'; ours is what cells say and show.
    ours = {"include": [[".jp-RenderedMarkdown"], [".jp-OutputArea-output"]], "exclude": [[".noUi-handle"]]}
    assert page.evaluate(SERIOUS, ours) == []
    page.close()
