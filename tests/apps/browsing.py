"""Pages in Debian's Chromium: each is looked at by axe, and no request may leave this machine.

With RNAGAN_SCREENSHOTS=FOLDER every page is pictured there, as a phone and a desktop show it.
"""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
VIEWS = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 800}}
MARKS = [
    pytest.mark.slow,
    pytest.mark.guard,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed (tests/apps/servers.sh install)"),
]


def open_page(browser: Browser, view: str) -> Page:
    """A page of a new context; an error in it, or a request to another machine, fails the test."""
    page = browser.new_context(viewport=VIEWS[view]).new_page()
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.problems = problems  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(f"{said.text}: {said.location}") if said.type == "error" else None)
    page.on("request", lambda asked: None if _is_here(asked.url) else problems.append(asked.url))
    return page


def _is_here(address: str) -> bool:
    return address.startswith(("http://127.0.0.1:", "data:"))


def loaded(page: Page, selector: str) -> None:
    """Wait for a page that holds `selector`, and until it answers keys and shows its images."""
    page.wait_for_selector(selector)
    page.wait_for_load_state()


def looked_at(page: Page, name: str) -> None:
    """Axe finds nothing on the page, nothing is wider than the screen, and it is pictured."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert not found, [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if folder := os.environ.get("RNAGAN_SCREENSHOTS"):
        view = next(view for view, size in VIEWS.items() if size == page.viewport_size)
        page.screenshot(path=Path(folder) / f"{name}-{view}.png", full_page=True)
