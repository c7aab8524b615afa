"""JupyterLab's pages, as tests open and run them in a browser."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageChops

IDLE = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'

#: All that somebody can press, choose or write in on a page, as the keyboard should reach it.
CONTROLS = "a[href], button:enabled, input:enabled, select, textarea, summary"


def opened(new_page: Callable[..., Any], address: str, width: int = 1200) -> Any:
    """A page with a notebook whose kernel is ready."""
    page = new_page(viewport={"width": width, "height": 1200})
    page.set_default_timeout(60_000)
    page.goto(f"{address}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell >> nth=0")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # in the bar below: the kernel is there, and waits
    return page


def run_all(page: Any, seconds: int) -> None:
    """Runs every cell, from the menu, and waits for the last."""
    page.locator("#jp-MainMenu").get_by_text("Run", exact=True).click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    page.wait_for_timeout(1_000)
    page.wait_for_selector(IDLE, timeout=seconds * 1000)


def tabbed(page: Any, selector: str, most: int = 200) -> None:
    """Tabs to the next element that a selector matches."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page, selector):
            return
    raise AssertionError(f"Tab never comes to {selector}.")


def focused(page: Any, selector: str) -> bool:
    """Whether the keyboard is on an element that a selector matches."""
    return bool(page.evaluate("selector => document.activeElement.matches(selector)", selector))


#: Those of a page's controls that somebody can see now.
VISIBLE = f"""[...document.querySelectorAll("{CONTROLS}")]
    .filter(one => one.checkVisibility({{ visibilityProperty: true }}))"""


def keyboard_faults(page: Any) -> list[str]:
    """Tabs through a whole page: the controls that are never reached, and what is reached and looks as before."""
    page.evaluate(f"() => {VISIBLE}.forEach(one => one.unmet = true)")
    faults = []
    for _ in range(500):
        page.keyboard.press("Tab")
        if focused(page, "body"):
            break
        page.evaluate("() => { window.met = document.activeElement; delete met.unmet }")
        with_focus = page.screenshot(animations="disabled")
        page.evaluate("() => HTMLElement.prototype.blur.call(met)")
        if not differ(with_focus, page.screenshot(animations="disabled")):
            faults.append("unseen: " + page.evaluate("() => met.outerHTML.slice(0, 160)"))
        page.evaluate("() => met.focus({ preventScroll: true })")
    unmet = f"() => {VISIBLE}.filter(one => one.unmet).map(one => `unmet: ${{one.outerHTML.slice(0, 160)}}`)"
    return faults + page.evaluate(unmet)


def differ(one: bytes, other: bytes) -> bool:
    """Whether two pictures of a page differ by as much as a ring around a small button."""
    grey = (Image.open(io.BytesIO(picture)).convert("L") for picture in (one, other))
    return sum(ImageChops.difference(*grey).histogram()[40:]) > 60
