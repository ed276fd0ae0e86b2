"""The explorer's section map: spots, the tiles around the one that is chosen, a gene moved in all of them."""

import io
import re
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rnagan.apps.explored_sections import IN_VIEW, MAX_SPOTS, Section, find_sections
from rnagan.apps.explorer_answers import ExplorerService
from rnagan.apps.explorer_visits import Recent
from rnagan.evaluation.real_tiles import read_tiles
from rnagan.reports.section_pictures import section_picture
from rnagan.training.tile_inputs import TileInputs
from tests.apps.made_explorer import make_service, pictures, visiting
from tests.apps.test_explorer import number_of, pixels


@pytest.fixture(scope="module")
def service(section_gene_run: Path, section_set: TileInputs) -> ExplorerService:
    return make_service(section_gene_run, section_set)


def test_a_map_has_every_spot_and_shades_where_a_gene_is_high(service: ExplorerService) -> None:
    client, path = visiting(service)
    page = client.get(f"{path}/section", params={"profile": number_of(service.explored, "S4_2x3")}).text
    assert page.count("<circle") == 72 and page.count('class="plain chosen"') == 1
    assert {name for name in re.findall(r">(S\d)</a>", page)} == {"S1", "S2", "S3", "S4"}
    page = client.get(
        f"{path}/section", params={"profile": number_of(service.explored, "S4_2x3"), "gene": "ENSG00000000003"}
    ).text
    shades = np.array(re.findall(r'class="shade-(\d)', page), int)
    section = service.sections.of(str(number_of(service.explored, "S4_2x3")))  # type: ignore[union-attr]
    own = service.explored.profiles.values[section.numbers]
    level = own[:, 3] / own.sum(axis=1)
    assert np.corrcoef(shades, level)[0, 1] > 0.9


def test_the_view_is_the_spots_around_the_chosen_one_real_and_generated(
    service: ExplorerService, section_set: TileInputs
) -> None:
    client, path = visiting(service)
    explored, at = service.explored, {"profile": str(number_of(service.explored, "S4_4x4")), "seed": "2"}
    page = client.get(f"{path}/section/answer", params=at).text
    section = service.sections.of(at["profile"])  # type: ignore[union-attr]
    spots = section.around(int(at["profile"]))
    assert len(spots) == IN_VIEW and spots[0] == int(at["profile"]) and f"The {IN_VIEW} spots in view" in page
    names = [explored.shown(spot).name for spot in spots]
    assert {f"S4_{x}x{y}" for x in (3, 4, 5) for y in (3, 4, 5)} <= set(names)
    from rnagan.data.index import open_dataset

    shards = open_dataset(section_set.shards)
    real = np.concatenate(read_tiles(shards, pd.DataFrame({"slide": "S4", "sample": names}), 1, 32))
    (own,), (around,) = pictures(page, "Real tile of the spot"), pictures(page, "Real tiles of the spots")
    np.testing.assert_array_equal(pixels(own), real[0])
    np.testing.assert_array_equal(pixels(around), section_picture(section.positions_of(spots), real))
    generated, _ = explored.answer_spots(spots, None, 0.0, 2)
    wanted = explored.model.generate_tiles(
        explored.encoded(explored.profiles.values[spots[:1]], None, 0)[0][0], 1, 2, names[0]
    )
    assert np.abs(pixels(pictures(page, "Generated tile of")[0]).astype(int) - wanted[0]).max() <= 1
    np.testing.assert_array_equal(
        pixels(pictures(page, "Generated tiles of")[0]), section_picture(section.positions_of(spots), generated)
    )
    (link,) = re.findall(r'href="([^"]+/tiles/1\.png[^"]+)"', page)
    saved = np.asarray(Image.open(io.BytesIO(client.get(unescape(link)).content)))
    np.testing.assert_array_equal(saved, wanted[0])
    assert "haematoxylin" in page and "Stands out: " in page


def test_the_slider_moves_all_spots_in_view_and_pointing_shows_one(service: ExplorerService) -> None:
    client, path = visiting(service)
    at = {"profile": "3", "move": "g2"}
    still, moved = (client.get(f"{path}/section/answer", params=at | {"step": step}).text for step in ("0", "3"))
    assert pictures(still, "Generated tiles of") != pictures(moved, "Generated tiles of")
    assert pictures(still, "Real tiles of") == pictures(moved, "Real tiles of")
    spot = client.get(f"{path}/section/spot", params=at | {"step": "3"}).text
    assert len(pictures(spot, "Generated tile of")) == 1 and "spots in view" not in spot


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize(
    "query", [{"profile": "-1"}, {"profile": "99999"}, {"profile": "u0"}, {"profile": "²"}, {"step": "9"}]
)
def test_spots_that_are_not_there(service: ExplorerService, query: dict[str, str]) -> None:
    client, path = visiting(service)
    for address in ("section", "section/answer", "section/spot"):
        assert client.get(f"{path}/{address}", params=query).status_code == 422
    assert client.get("/e/x/section").status_code == 404


def test_the_page_of_profiles_leads_to_the_map(service: ExplorerService) -> None:
    client, path = visiting(service)
    page = client.get(path).text
    assert f'href="{path}/section"' in page
    assert "Split by section" in page  # what the model's scores claim


@pytest.mark.attack(kind=10, ends="unharmed")
def test_a_large_section_is_thinned_and_says_so() -> None:
    count = 2 * MAX_SPOTS + 10
    table = pd.DataFrame({"sample": [f"s{k}" for k in range(count)], "slide": "A", "x": range(count), "y": 0})
    found = find_sections(table.astype(str), [f"s{k}" for k in range(count)], "cohort.csv")
    assert found is not None
    (section,) = found.all
    assert len(section.numbers) <= MAX_SPOTS and section.left_out == count - len(section.numbers)
    assert find_sections(table.drop(columns="y"), ["s1"], "cohort.csv") is None
    with pytest.raises(ValueError, match=r"cohort.csv: spot s0 has no position"):
        find_sections(table.assign(x=""), ["s0", "s1"], "cohort.csv")


def test_spots_that_touch_are_drawn_apart() -> None:
    x, y = np.meshgrid(np.arange(5.0), np.arange(4.0))
    section = Section("A", np.arange(20), np.stack([x.ravel(), y.ravel()], axis=1))
    dots = section.dots(np.arange(20.0))
    assert section.size == (624, 474) and section.radius == 12
    assert [dot.shade for dot in dots] == sorted(dot.shade for dot in dots) and {dot.shade for dot in dots} == set(
        range(7)
    )
    assert (dots[1].x - dots[0].x, dots[5].y - dots[0].y) == (150, 150)
    assert {dot.shade for dot in section.dots(np.zeros(20))} == {-1}


def test_only_spots_nearby_are_in_view() -> None:
    x, y = np.meshgrid(np.arange(4.0), np.arange(4.0))
    places = np.concatenate([np.stack([x.ravel(), y.ravel()], axis=1), [[500.0, 0.0], [501.0, 0.0]]])
    section = Section("A", np.arange(18), places)
    assert sorted(section.around(0)) == [*range(15)]  # the far corner of the square is 4.2 pitches away
    assert sorted(section.around(16)) == [16, 17]


def test_kept_pictures_are_few_by_their_bytes() -> None:
    recent: Recent[str, str] = Recent(10, len)
    for key, value in (("a", "xxxx"), ("b", "xxxx"), ("a", "xx"), ("c", "xxxx")):
        recent.keep(key, value)
    assert [recent.find(key) for key in "abc"] == ["xx", "xxxx", "xxxx"]
    recent.keep("d", "x")
    assert [recent.find(key) for key in "abcd"] == [None, "xxxx", "xxxx", "x"]


@pytest.mark.slow
@pytest.mark.guard
def test_a_model_of_an_embedding_moves_its_dimensions(section_run: Path, section_set: TileInputs) -> None:
    service = make_service(section_run, section_set)
    client, path = visiting(service)
    page = client.get(path, params={"move": "d1", "step": "2"}).text
    assert "X_spots 2" in page and "trained on an embedding of profiles" in page
    assert client.get(path, params={"gene": "ENSG00000000001"}).status_code == 422
    views = [client.get(f"{path}/section/answer", params={"move": "d0", "step": step}).text for step in ("0", "3")]
    assert pictures(views[0], "Generated tiles of") != pictures(views[1], "Generated tiles of")
    answer = client.post(f"{path}/profiles", content=b"gene,a\nENSG1,1\n", headers={"Content-Type": "text/csv"})
    assert answer.status_code == 422
