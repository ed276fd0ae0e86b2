"""The explorer in Debian's Chromium: the slider moved, a profile uploaded, a tile saved, a section opened; axe finds
nothing. With RNAGAN_SCREENSHOTS=FOLDER its pages are pictured there."""

import os
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from rnagan.expression.h5ad import open_profiles
from rnagan.training.tile_inputs import TileInputs
from tests.apps.browsing import MARKS, VIEWS, looked_at, open_page
from tests.apps.running import serving

pytestmark = MARKS

Given = list[object]


@pytest.fixture(scope="module")
def donors(trained: Path, inputs: TileInputs, programmes: Path) -> Given:
    """Options of the explorer on the toy model; RNAGAN_EXPLORED has those of another one, for pictures of docs/."""
    if given := os.environ.get("RNAGAN_EXPLORED"):
        return list(shlex.split(given))
    places = ("--shards", inputs.shards, "--cohort", inputs.cohort)
    return ["--model", trained, "--profiles", inputs.expression, "--programme", programmes, *places]


@pytest.fixture(scope="module")
def spots(section_gene_run: Path, section_set: TileInputs) -> Given:
    if given := os.environ.get("RNAGAN_EXPLORED_SPOTS"):
        return list(shlex.split(given))
    places = ("--shards", section_set.shards, "--cohort", section_set.cohort)
    return ["--model", section_gene_run, "--profiles", section_set.expression, *places]


def tiles_of(page: Page) -> list[str]:
    images = page.locator("section[aria-label='Generated tiles'] img")
    return images.evaluate_all("images => images.map(image => image.src)")


def wait_for_other(page: Page, before: list[str]) -> None:
    script = "before => document.querySelector(\"section[aria-label='Generated tiles'] img\").src !== before"
    page.wait_for_function(script, arg=before[0])


def table_of(given: Given, path: Path) -> Path:
    """The last profile of what is explored, as a visitor's table."""
    adata = open_profiles(Path(str(given[given.index("--profiles") + 1])))[-1:]
    values = adata.X[0].tolist()
    path.write_text("gene,mine\n" + "".join(f"{gene},{v!r}\n" for gene, v in zip(adata.var_names, values, strict=True)))
    return path


@pytest.mark.parametrize("view", VIEWS)
def test_a_programme_is_moved_a_profile_uploaded_a_tile_saved(
    browser: Browser, donors: Given, tmp_path: Path, view: str
) -> None:
    with serving("explore", *donors) as server:
        page = open_page(browser, view)
        page.goto(server.url)
        assert re.fullmatch(r"/e/[\w-]{32}", page.url.removeprefix(server.url))
        looked_at(page, "explorer-start")
        still = tiles_of(page)
        assert len(set(still)) == 8
        with page.expect_navigation():
            page.get_by_label("What to move").select_option(index=2)
        assert tiles_of(page) == still
        slider = page.get_by_role("slider")
        slider.focus()
        page.route("**/answer?*", lambda route: route.fulfill(status=409), times=1)  # another page took its turn
        page.keyboard.press("ArrowRight")
        wait_for_other(page, still)
        for _ in range(7):  # as fast as keys come
            page.keyboard.press("ArrowRight")
        wait_for_other(page, still)
        page.wait_for_selector(".plots svg .curve")
        page.wait_for_selector("#answer[aria-busy=false]")
        moved = tiles_of(page)
        assert moved != still and page.locator("#moved").inner_text() == f"+{slider.input_value()}"
        looked_at(page, "explorer-moved")
        with page.expect_download() as saving:
            page.get_by_role("link", name="Generated tile 2; save it").click()
        saving.value.save_as(tmp_path / "tile.png")
        with Image.open(tmp_path / "tile.png") as tile:
            assert tile.text["Synthetic"] == "true" and "rnagan:moved" in tile.text
        page.get_by_text("Use a profile of your own").click()
        page.get_by_label("Values are").select_option("tpm")
        with page.expect_navigation():
            page.get_by_label("Table", exact=True).set_input_files(table_of(donors, tmp_path / "mine.csv"))
        assert "profile=u0" in page.url and tiles_of(page) not in (still, moved)
        looked_at(page, "explorer-uploaded")
        (tmp_path / "wrong.csv").write_text("gene,a\nx,y\n")
        page.get_by_label("Table", exact=True).set_input_files(tmp_path / "wrong.csv")
        page.locator("#said", has_text="Your table").wait_for()
        page.evaluate("document.getElementById('upload').action = '/e/gone/profiles'")
        page.get_by_label("Table", exact=True).set_input_files(tmp_path / "mine.csv")
        page.locator("#said", has_text="There is no such page").wait_for()
        assert "<" not in page.locator("#said").inner_text()
        foreseen = "409", "422", "404"
        refused = [said for said in page.problems if not any(code in said for code in foreseen)]  # type: ignore[attr-defined]
        assert refused == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_section_is_opened_and_a_gene_moved_in_view(browser: Browser, spots: Given, view: str) -> None:
    with serving("explore", *spots) as server:
        page = open_page(browser, view)
        page.goto(server.url)
        page.get_by_role("link", name="Section map").click()
        page.wait_for_selector("#map circle.chosen")
        looked_at(page, "section-start")

        def around() -> str:
            return page.get_by_alt_text("Generated tiles of the spots in view").get_attribute("src") or ""

        first = around()
        page.locator("#map a").nth(5).click(force=True)
        page.wait_for_function("before => document.querySelectorAll('img.around')[1].src !== before", arg=first)
        second = around()
        with page.expect_navigation():
            page.get_by_label("What to move").select_option(index=1)
        assert around() == second
        page.get_by_role("slider").focus()
        for _ in range(6):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("before => document.querySelectorAll('img.around')[1].src !== before", arg=second)
        if view == "desktop":
            page.locator("#map a").nth(9).hover(force=True)
            page.wait_for_selector("#hovered img")
        page.wait_for_selector("#answer[aria-busy=false]")
        looked_at(page, "section-moved")
        assert page.problems == []  # type: ignore[attr-defined]
