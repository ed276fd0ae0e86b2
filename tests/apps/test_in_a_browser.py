"""Quiz and study in Debian's Chromium: played with keyboard and pointer, cut off, gone on with; axe finds nothing."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from rnagan.runtime.ends import STOPPED
from tests.apps.browsing import MARKS, VIEWS, loaded, looked_at, open_page
from tests.apps.made_study import SIDE, write_images
from tests.apps.running import free_port, serving

pytestmark = MARKS


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    given = os.environ.get("RNAGAN_SCREENSHOT_TILES")  # other tiles for pictures of docs/
    made = given.split(",") if given else write_images(tmp_path_factory.mktemp("images"), each=4)
    return [word for source in made for word in ("--source", source)]


def px() -> str:
    return os.environ.get("RNAGAN_SCREENSHOT_PX", str(SIDE))


@pytest.mark.parametrize("view", VIEWS)
def test_the_quiz_is_played_to_its_end(browser: Browser, sources: list[str], tmp_path: Path, view: str) -> None:
    options = [*sources, "--out", tmp_path / "quiz", "--each", 4, "--tile-px", px(), "--rounds", 6]
    with serving("serve-quiz", *options) as server:
        page = open_page(browser, view)
        page.goto(server.url)
        looked_at(page, "quiz-start")
        page.keyboard.press("Enter")
        for number in range(1, 7):
            loaded(page, f"h1:has-text('Tile {number} of 6')")
            assert page.locator("img.tile").evaluate("image => image.complete && image.naturalWidth") == int(px())
            if number == 1:
                looked_at(page, "quiz-round")
            if number % 2:
                page.keyboard.press("r")
            else:
                page.get_by_role("button", name=re.compile("Generated")).click()
            loaded(page, "[role=status]")
            if number == 1:
                looked_at(page, "quiz-answered")
            page.keyboard.press("Enter")
        loaded(page, ".score")
        assert re.search(r"\d of 6 right", page.inner_text(".score")) and page.locator(".rounds li").count() == 6
        looked_at(page, "quiz-end")
        assert page.problems == []  # type: ignore[attr-defined]
        assert server.stop() == STOPPED


def answer(page: Page, by_keyboard: bool) -> None:
    if by_keyboard:
        page.get_by_role("radio", name=re.compile("lung")).focus()
        page.keyboard.press("Space")
        page.keyboard.press("4")
        page.keyboard.press("y")
        page.get_by_role("textbox").fill("4 n: blurred")  # letters here choose nothing
        page.get_by_role("button", name="Save and go on").press("Enter")
    else:
        page.get_by_label(re.compile("cortex")).check()
        page.get_by_label("3", exact=True).check()
        page.get_by_label("No", exact=True).check()
        page.get_by_role("button", name="Save and go on").click()


def test_two_readers_at_once_are_cut_off_and_go_on(browser: Browser, sources: list[str], tmp_path: Path) -> None:
    port, study = free_port(), tmp_path / "study"
    tiles = ["--each", 1, "--tile-px", px(), "--repeats", 1]
    pages: list[Page] = []
    token = "a-token-for-this-test"
    with serving("serve-reader-study", *sources, "--out", study, *tiles, "--readers", 2, port=port) as server:
        links = re.findall(r"http://\S+", (study / "invitations.csv").read_text())
        for link, view in zip(links, VIEWS, strict=True):
            page = open_page(browser, view)
            page.goto(link)
            said = re.search(r"0 of (\d+) answered", page.inner_text("main"))
            assert said is not None
            count = int(said[1])
            looked_at(page, "study-start")
            page.get_by_role("link", name="Begin").click()
            looked_at(page, "study-tile")
            pages.append(page)
        for answered in (1, 2):
            for page in pages:
                answer(page, by_keyboard=page is pages[1])
                loaded(page, f"h1:has-text('Tile {answered + 1} of {count}')")
        server.kill()
    with serving("serve-reader-study", "--out", study, "--repeats", 1, "--admin-token", token, port=port) as server:
        for page, link in zip(pages, links, strict=True):
            page.goto(link)
            assert f"2 of {count} answered" in page.inner_text("main")
            page.get_by_role("link", name="Go on").click()
            for number in range(3, count + 1):
                loaded(page, f"h1:has-text('Tile {number} of {count}')")
                answer(page, by_keyboard=page is pages[1])
            loaded(page, ".score")
            looked_at(page, "study-end")
            assert page.problems == []  # type: ignore[attr-defined]
        admin = browser.new_context(
            viewport=VIEWS["desktop"], http_credentials={"username": "a", "password": token}
        ).new_page()
        admin.goto(f"{server.url}/admin")
        assert admin.inner_text("table").count(str(count)) >= 4
        looked_at(admin, "study-admin")
        admin.get_by_label("Names, one a line").fill("Dr <b>Ä</b>")
        admin.get_by_role("button", name="Make links").click()
        assert "Dr <b>Ä</b>" in admin.inner_text("main")
        looked_at(admin, "study-admin-links")
    assert (study / "invitations.csv").stat().st_mode & 0o077 == 0
