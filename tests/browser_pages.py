"""JupyterLab's pages, as tests open and run them in a browser."""

from __future__ import annotations

from typing import Any

IDLE = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'


def opened(browser: Any, address: str, width: int = 1200) -> Any:
    """A page with a notebook whose kernel is ready."""
    page = browser.new_page(viewport={"width": width, "height": 1200})
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
