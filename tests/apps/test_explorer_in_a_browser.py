"""The explorer in Debian's Chromium: the slider moved, a profile uploaded, a tile saved, a section opened; axe finds
nothing. With RNAGAN_SCREENSHOTS=FOLDER its pages are pictured there."""

import os
import re
import shlex
from pathlib import Path

import anndata
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from rnagan.expression.h5ad import open_profiles
from rnagan.expression.units import CENTRED
from rnagan.io.matrix_parquet_h5ad import dense
from rnagan.training.tile_inputs import TileInputs
from tests.apps.browsing import MARKS, VIEWS, loaded, looked_at, open_page
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
    """The same for spots of sections: RNAGAN_EXPLORED_SPOTS, of any run, also on an embedding or centred profiles."""
    if given := os.environ.get("RNAGAN_EXPLORED_SPOTS"):
        return list(shlex.split(given))
    places = ("--shards", section_set.shards, "--cohort", section_set.cohort)
    return ["--model", section_gene_run, "--profiles", section_set.expression, *places]


def profiles_of(given: Given) -> anndata.AnnData:
    return open_profiles(Path(str(given[given.index("--profiles") + 1])))


def of_embedding(given: Given) -> bool:
    return (Path(str(given[given.index("--model") + 1])) / "model/embedding").is_dir()


def tiles_of(page: Page) -> list[str]:
    images = page.locator("section[aria-label='Generated tiles'] img")
    return images.evaluate_all("images => images.map(image => image.src)")


def wait_for_other(page: Page, before: list[str]) -> None:
    script = "before => document.querySelector(\"section[aria-label='Generated tiles'] img\").src !== before"
    page.wait_for_function(script, arg=before[0])


def table_of(profiles: anndata.AnnData, path: Path) -> Path:
    """The last profile, as a visitor's table."""
    values = dense(profiles[-1:].X)[0].tolist()
    rows = zip(profiles.var_names, values, strict=True)
    path.write_text("gene,mine\n" + "".join(f"{gene},{v!r}\n" for gene, v in rows))
    return path


def save_a_tile(page: Page, name: str, path: Path) -> None:
    """Choose the tile that is called so; the file says that it is synthetic, and what was moved."""
    with page.expect_download() as saving:
        page.get_by_role("link", name=name).last.click()
    saving.value.save_as(path)
    with Image.open(path) as tile:
        assert tile.text["Synthetic"] == "true" and "rnagan:moved" in tile.text  # type: ignore[attr-defined]


def upload_a_profile(page: Page, given: Given, folder: Path, pictured: str) -> None:
    """A table of ours is taken, others are refused in a sentence; the page of a model that takes none says so."""
    profiles, before = profiles_of(given), tiles_of(page)
    if of_embedding(given) or profiles.uns["units"] == CENTRED:
        assert page.get_by_text("it can't take a table of yours").is_visible()
        assert page.locator("#upload").count() == 0
        return
    page.get_by_text("Use a profile of your own").click()
    page.get_by_label("Values are").select_option(str(profiles.uns["units"]))
    with page.expect_navigation():
        page.get_by_label("Table", exact=True).set_input_files(table_of(profiles, folder / "mine.csv"))
    assert "profile=u0" in page.url and tiles_of(page) != before
    looked_at(page, pictured)
    (folder / "wrong.csv").write_text("gene,a\nx,y\n")
    page.get_by_label("Table", exact=True).set_input_files(folder / "wrong.csv")
    page.locator("#said", has_text="Your table").wait_for()
    page.evaluate("document.getElementById('upload').action = '/e/gone/profiles'")
    page.get_by_label("Table", exact=True).set_input_files(folder / "mine.csv")
    # who has no page of their own may send little, so a table of many genes is refused for its size
    page.locator("#said", has_text=re.compile("There is no such page|load this page anew")).wait_for()
    assert "<" not in page.locator("#said").inner_text()


def unforeseen(page: Page, *foreseen: str) -> list[str]:
    """What went wrong on a page, but for answers of these codes."""
    problems: list[str] = page.problems  # type: ignore[attr-defined]
    return [said for said in problems if not any(f"status of {code}" in said for code in foreseen)]


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
        page.wait_for_selector(".plots svg .curve")
        page.wait_for_selector("#answer[aria-busy=false]")
        assert tiles_of(page) != still and page.locator("#moved").inner_text() == f"+{slider.input_value()}"
        looked_at(page, "explorer-moved")
        save_a_tile(page, "Generated tile 2; save it", tmp_path / "tile.png")
        upload_a_profile(page, donors, tmp_path, "explorer-uploaded")
        assert unforeseen(page, "409", "422", "404", "413") == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_section_is_opened_a_gene_moved_in_view_a_tile_saved(
    browser: Browser, spots: Given, tmp_path: Path, view: str
) -> None:
    with serving("explore", *spots) as server:
        page = open_page(browser, view)
        page.goto(server.url)
        page.get_by_role("link", name="Section map").click()
        loaded(page, "#map circle.chosen")
        looked_at(page, "section-start")

        def around() -> str:
            return page.get_by_alt_text("Generated tiles of the spots in view").get_attribute("src") or ""

        def wait_for_another_view(before: str) -> None:
            script = "before => document.querySelector(\"img[alt^='Generated tiles of']\")?.src !== before"
            page.wait_for_function(script, arg=before)

        first = around()
        page.locator("#map a").nth(5).click(force=True)
        wait_for_another_view(first)
        second = around()
        with page.expect_navigation():
            page.get_by_label("What to move").select_option(index=1)
        assert around() == second
        if not of_embedding(spots):
            profiles = profiles_of(spots)
            gene = str(profiles.var_names[int(dense(profiles.X).mean(axis=0).argmax())])
            page.get_by_label("Or any gene").fill(gene)
            with page.expect_navigation():
                page.keyboard.press("Enter")
            assert page.locator("#map circle.shade-6").count() > 0 and around() == second
        slider = page.get_by_role("slider")
        slider.focus()
        for _ in range(6):
            page.keyboard.press("ArrowRight")
        wait_for_another_view(second)
        if view == "desktop":
            page.locator("#map a").nth(9).hover(force=True)
            page.wait_for_selector("#hovered img")
        page.wait_for_selector("#answer[aria-busy=false]")
        assert page.locator("#moved").inner_text() == f"+{slider.input_value()}"
        looked_at(page, "section-moved")
        save_a_tile(page, "Generated tile of the spot; save it", tmp_path / "spot.png")
        page.get_by_role("link", name="Profiles").click()
        loaded(page, "section[aria-label='Generated tiles']")
        upload_a_profile(page, spots, tmp_path, "section-uploaded")
        assert unforeseen(page, "422", "404", "413") == []
