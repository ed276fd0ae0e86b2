"""The explorer: profiles, a slider, tiles beside real ones, curves, downloads; asked for by strangers."""

import asyncio
import base64
import dataclasses
import io
import itertools
import json
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anndata
import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from rnagan import RNAGAN
from rnagan.apps.explored_model import CURVE_STEPS, ExploredModel
from rnagan.apps.explorer import POLICY, explorer
from rnagan.apps.explorer_answers import ExplorerService
from rnagan.apps.explorer_visits import ExplorerQuery, Visit
from rnagan.apps.guard import HEADERS
from rnagan.apps.shell import Address, server_of
from rnagan.apps.tile_downloads import as_zip, provenance
from rnagan.apps.visitor_queue import Replaced
from rnagan.data.index import open_dataset
from rnagan.data.reader import TileReader
from rnagan.training.tile_inputs import TileInputs
from tests.apps.made_explorer import make_service, pictures, visiting
from tests.apps.made_study import client as client_of

Visiting = tuple[TestClient, str, ExplorerService]


@pytest.fixture(scope="module")
def service(trained: Path, inputs: TileInputs, programmes: Path) -> ExplorerService:
    return make_service(trained, inputs, programmes)


@pytest.fixture
def visit(service: ExplorerService) -> Iterator[Visiting]:
    client, path = visiting(service)
    yield client, path, service


def pixels(address: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image)


def number_of(explored: ExploredModel, name: str) -> int:
    return explored.profiles.obs.index.tolist().index(name)


def test_tiles_are_those_of_generate_tiles_beside_the_donors_own(
    visit: Visiting, trained: Path, inputs: TileInputs
) -> None:
    client, path, service = visit
    page = client.get(path, params={"profile": number_of(service.explored, "D8-lung"), "seed": 5}).text
    adata = anndata.read_h5ad(inputs.expression)[["D8-lung"]].copy()
    wanted = RNAGAN.from_pretrained(trained, "cpu").generate(adata, 8, seed=5)[0]
    found = np.stack([pixels(address) for address in pictures(page)])
    assert np.abs(found.astype(int) - wanted).max() <= 1  # of another batch
    shards = open_dataset(inputs.shards)
    tile = np.empty((32, 32, 3), np.uint8)
    TileReader(shards, ["D8-lung-slide"]).decode(0, 0, tile)
    np.testing.assert_array_equal(pixels(pictures(page, "Real tile")[0]), tile)
    assert "this profile&#39;s own tissue" in page and 'role="alert"' not in page


def test_a_profile_without_a_slide_is_beside_other_donors_of_its_tissue(visit: Visiting) -> None:
    client, path, service = visit
    page = client.get(path, params={"profile": number_of(service.explored, "D11-lung2")}).text
    assert "Real lung: other donors" in page and len(pictures(page, "Real tile")) == 8


def test_the_slider_moves_as_perturb_does_with_the_same_noise(visit: Visiting) -> None:
    client, path, service = visit
    explored = service.explored
    at = {"profile": "3", "seed": 1}
    still = pictures(client.get(f"{path}/answer", params=at).text)
    there = pictures(client.get(f"{path}/answer", params=at | {"move": "p1", "step": "0.5"}).text)
    back = pictures(client.get(f"{path}/answer", params=at | {"move": "p1", "step": "0"}).text)
    assert still == back != there
    slider = explored.slider("p1")
    assert (slider.name, slider.genes, slider.reach) == ("growth", 10, 1.0)
    vae = explored.vae
    assert vae is not None
    x = explored.profiles.values[3:4]
    moved = explored.programmes[1].apply(vae, x, 0.5)
    np.testing.assert_array_equal(slider.move(x, 0.5), moved)
    latents = vae.encode(moved, vae.transform.genes, vae.transform.units).latents
    wanted = explored.model.generate_tiles(latents[0], 8, 1, explored.shown(3).name)
    np.testing.assert_array_equal(np.stack([pixels(address) for address in there]), wanted)


def test_a_gene_is_found_by_id_and_symbol_and_moved_in_sds(visit: Visiting) -> None:
    client, path, service = visit
    page = client.get(path, params={"gene": "ENSG99999999999", "step": "-3"})
    assert page.status_code == 422 and "The model has no gene ENSG99999999999" in page.text
    page = client.get(path, params={"gene": "ENSG00000000004.7", "step": "-3"})
    assert page.status_code == 200 and 'min="-3.0"' in page.text and 'value="g4" selected' in page.text
    vae, x = service.explored.vae, service.explored.profiles.values[:1]
    assert vae is not None
    before, after = (
        vae.transform.apply(v, vae.transform.genes, "tpm") for v in (x, service.explored.slider("g4").move(x, 1.0))
    )
    assert after[0, 4] - before[0, 4] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(np.delete(after, 4, 1), np.delete(before, 4, 1), atol=1e-3)


def test_far_profiles_are_said_to_be_far(visit: Visiting) -> None:
    client, path, _ = visit
    near = client.get(f"{path}/answer", params={"profile": "0"}).text
    table = "gene,x\n" + "".join(f"ENSG{k:011d},{10.0 ** (k % 5)}\n" for k in range(30))
    go = client.post(f"{path}/profiles?units=tpm", content=table, headers={"Content-Type": "text/csv"}).json()["go"]
    uploaded = client.get(go).text
    assert "unlike those that the model was trained on" not in near
    assert "don&#39;t trust its tiles" in uploaded or "don't trust its tiles" in uploaded, uploaded[:2000]


def test_the_curve_is_measured_once_and_drawn(visit: Visiting) -> None:
    client, path, _ = visit
    at = {"profile": "2", "move": "p0", "step": "0.25", "seed": 3}
    first = client.get(f"{path}/answer", params=at).text
    assert "data-wants-curve" in first and "<polyline" not in first
    assert client.get(f"{path}/curve", params=at).status_code == 204
    then = client.get(f"{path}/answer", params=at | {"step": "1"}).text
    assert then.count("<polyline") == 4 and "data-wants-curve" not in then
    label = re.search(r'aria-label="nuclear density, nuclei per mm²: from ([\d.,]+) at -1 to ([\d.,]+) at \+1', then)
    now = re.search(r"nuclear density, nuclei per mm²: <strong>([\d.,]+)</strong>", then)
    assert label is not None and now is not None and label[2] == now[1]
    assert client.get(f"{path}/curve", params={"profile": "2", "move": ""}).status_code == 422  # of what?


def test_a_curve_that_nobody_waits_for_gives_way_to_the_next(visit: Visiting) -> None:
    _, path, service = visit

    async def two() -> list[object]:
        own = Visit(path.rpartition("/")[2], {}, itertools.count())
        first, second = (ExplorerQuery(profile, "p0", 0.0, 0) for profile in ("1", "2"))
        left = asyncio.create_task(service.curve(own, first))
        await asyncio.sleep(0.02)
        return [await service.curve(own, second), *await asyncio.gather(left, return_exceptions=True)]

    curve, left = asyncio.run(two())
    assert len(curve) == CURVE_STEPS and isinstance(left, Replaced)  # type: ignore[arg-type]


def test_a_tile_is_saved_with_what_made_it(visit: Visiting, inputs: TileInputs) -> None:
    client, path, service = visit
    at = {"profile": str(number_of(service.explored, "D8-lung")), "move": "p1", "step": "0.5", "seed": 7}
    shown = pictures(client.get(f"{path}/answer", params=at).text)
    saved = client.get(f"{path}/tiles/3.png", params=at)
    name = "D8-lung_growth_+0-5_seed7"
    assert saved.headers["content-disposition"] == f'attachment; filename="{name}_3.png"'
    with Image.open(io.BytesIO(saved.content)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels(shown[2]))
        about = image.text
    assert about["Synthetic"] == "true" and about["rnagan:model"] == service.explored.model.digest
    own = {key: about[f"rnagan:{key}"] for key in ("profile", "seed", "tile", "moved", "mpp", "far")}
    assert own == {
        "profile": "D8-lung",
        "seed": "7",
        "tile": "2",
        "moved": "growth +0.5 units (ln)",
        "mpp": "1",
        "far": own["far"],
    }
    with zipfile.ZipFile(io.BytesIO(client.get(f"{path}/tiles.zip", params=at).content)) as archive:
        assert archive.namelist() == [*(f"{name}_{k}.png" for k in range(1, 9)), "provenance.json"]
        assert archive.read(f"{name}_3.png") == saved.content
        said = json.loads(archive.read("provenance.json"))
    assert (said["model"], said["moved"], said["moved_genes"], said["moved_by"], said["seed"]) == (
        service.explored.model.digest,
        "growth",
        10,
        0.5,
        7,
    )
    assert said["profiles_file"] == service.explored.profiles.digest and said["synthetic"] is True


def test_the_page_begins_with_someone_the_model_has_not_seen(visit: Visiting) -> None:
    client, path, service = visit
    page = client.get(path).text
    chosen = re.search(r'<option value="(\d+)" selected>([^<]+)<', page)
    assert chosen is not None and "(held out)" in chosen[2]
    assert service.explored.shown(int(chosen[1])).split == "test"


def test_every_answer_has_the_headers(visit: Visiting) -> None:
    client, path, _ = visit
    page = client.get(path).text
    for address in (path, f"{path}/answer", f"{path}/tiles/1.png", "/static/explorer.js", "/nowhere"):
        answer = client.get(address)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS | {"Content-Security-Policy": POLICY}
    assert "default-src 'none'" in POLICY and "unsafe" not in POLICY and "http" not in POLICY
    assert not re.search(r"<script(?! src=\"/static/)|style=|onclick|https?://", page)


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize(
    "query",
    [
        *({"profile": number} for number in ("-1", "9999", "u0", "x", "²", "1e1", "../../etc/passwd", "")),
        *({"move": key} for key in ("p9", "g99", "d0", "x0", "p", "p-1", "g²", "../p0", "<script>")),
        *({"gene": name} for name in ("x" * 61, "/etc/passwd", "ENSG1,ENSG2", "<img src=x onerror=alert(1)>")),
        *({"move": "p0", "step": step} for step in ("nan", "inf", "1.01", "-1e9", "x", "1" * 400)),
        *({"seed": seed} for seed in ("-1", "10000", "1.5", "²", "")),
    ],
    ids=str,
)
def test_what_is_not_there_is_refused_in_one_sentence(visit: Visiting, query: dict[str, str]) -> None:
    client, path, _ = visit
    for address in (path, f"{path}/answer", f"{path}/tiles/1.png", f"{path}/tiles.zip"):
        answer = client.get(address, params=query)
        assert answer.status_code in (414, 422), (address, answer.text)
        assert answer.status_code == 414 or answer.text.count('role="alert"') == 1
        assert "<script>" not in answer.text and "<img src=x" not in answer.text and "root:" not in answer.text


@pytest.mark.attack(kind=10, ends="unharmed")
def test_a_gene_that_is_the_name_of_a_file_reads_no_file(visit: Visiting, tmp_path: Path) -> None:
    client, path, _ = visit
    (tmp_path / "g").write_text("ENSG00000000004\n")
    answer = client.get(path, params={"gene": str(tmp_path / "g")[-60:]})
    assert answer.status_code == 422


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize("number", ["0", "9", "-1", "1e0", "..%2f..%2fmodel", "x", "1.png", "²"])
def test_tiles_that_are_not_there(visit: Visiting, number: str) -> None:
    client, path, _ = visit
    assert client.get(f"{path}/tiles/{number}.png").status_code == 404


@pytest.mark.attack(kind=10, ends="unharmed")
def test_names_of_strangers_are_escaped(service: ExplorerService) -> None:
    name = "<script>alert(1)</script>\x1b[31m‮"
    obs = service.explored.profiles.obs.rename(index={"D8-lung": name}).replace({"tissue": {"lung": "<b>lung</b>"}})
    profiles = service.explored.profiles.__class__(
        service.explored.profiles.values,
        obs,
        service.explored.profiles.symbols | {"ENSG00000000004": "<i>SYM</i>"},
        "digest",
    )
    explored = ExploredModel(service.explored.model, profiles, service.explored.programmes, service.explored.measures)
    client, path = visiting(ExplorerService(explored, service.real, None, service._queue))
    at = {"profile": str(number_of(explored, name)), "gene": "<i>sym</i>"}
    page = client.get(path, params=at)
    assert page.status_code == 200
    for sign in ("<script>alert", "<b>lung", "<i>SYM", "\x1b", "‮"):
        assert sign not in page.text
    saved = client.get(f"{path}/tiles/1.png", params=at)
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9_+-]+\.png"', saved.headers["content-disposition"])


@pytest.mark.attack(kind=10)
def test_visits_are_secret_and_others_need_the_token(service: ExplorerService, visit: Visiting) -> None:
    client, path, _ = visit
    assert client.get("/e/" + "a" * 32).status_code == 404
    other = client.get("/").url.path
    assert other != path and len(path) > 30
    token = "a-token-for-this-test"
    guarded = client_of(explorer(service, Address("0.0.0.0", admin_token=token), 10_000, lambda: 0.0).guarded)
    assert guarded.get("/").status_code == 401
    for wrong in ("", "x", token + "x", token[:-1]):
        assert guarded.get("/", auth=("anyone", wrong)).status_code == 401
    opened = guarded.get("/", auth=("anyone", token))
    assert opened.status_code == 200 and opened.url.path.startswith("/e/")
    tries = [guarded.get("/", auth=("anyone", f"{k}")).status_code for k in range(60)]
    assert 429 in tries and guarded.get("/", auth=("anyone", token)).status_code == 429  # for a while


def test_other_donors_are_others(visit: Visiting, inputs: TileInputs) -> None:
    _, _, service = visit
    assert service.real is not None
    rows = service.real._rows
    tissue, donor = rows["tissue"].iloc[0], rows["donor"].iloc[0]
    left = service.real._rows = rows[(rows["donor"] == donor) & (rows["tissue"] == tissue)]
    try:
        assert len(left) and service.real.of_profile("another", donor, tissue, 8) is None
        found = service.real.of_profile("another", "someone", tissue, 8)
        assert found is not None and not found.own
    finally:
        service.real._rows = rows


def test_a_profile_without_a_tissue_is_still_its_own(service: ExplorerService) -> None:
    profiles = service.explored.profiles
    bare = dataclasses.replace(
        service.explored, profiles=dataclasses.replace(profiles, obs=profiles.obs.assign(tissue=""))
    )
    client, path = visiting(ExplorerService(bare, service.real, None, service._queue))
    page = client.get(path, params={"profile": number_of(bare, "D8-lung")}).text
    assert "Real lung: this profile&#39;s own tissue" in page


def test_what_made_a_tile_is_json_also_of_unknown_measures(visit: Visiting) -> None:
    _, _, service = visit
    shown = service.explored.shown(3)
    values = shown.values.copy()
    values[:2] = np.nan
    answer = service.explored.answer(shown)._replace(measures={"share": float("nan")}, residual=float("nan"))
    made_of = provenance(service.explored, shown._replace(values=values), ExplorerQuery("3", "p1", 0.5, 0), answer)
    assert (made_of["measures"], made_of["residual"], made_of["moved_genes"]) == ({"share": None}, None, 8)
    assert as_zip(answer.tiles, made_of).status_code == 200


def test_a_profile_that_is_not_listed_is_chosen_in_the_list(
    service: ExplorerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnagan.apps.explorer.LISTED", 1)
    client, path = visiting(service)
    for number in range(len(service.explored.profiles.obs)):
        page = client.get(path, params={"profile": number}).text
        assert re.findall(r'<option value="(\d+)" selected', page) == [str(number)]
        assert "(1 of " in page
        if number > 3:
            break


@pytest.mark.attack(kind=10)
def test_who_asks_too_often_waits(service: ExplorerService) -> None:
    client, path = visiting(service, rate=5, clock=lambda: 0.0)
    assert {client.get(f"{path}/answer").status_code for _ in range(40)} == {200, 429}


@pytest.mark.attack(kind=10)
def test_who_opens_many_visits_asks_no_faster(service: ExplorerService) -> None:
    """On a server that listens, whose clock stands: a visit has 30 requests, all of an address 300."""
    server = server_of(explorer(service, Address(), rate=5, clock=lambda: 0.0))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = threading.Thread(target=server.run, args=([listening],))
        running.start()
        place = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=place, timeout=None) as client:
                opened = [client.get("/").headers["location"] for _ in range(12)]
                statuses = [[client.get(f"{path}/answer?seed=x").status_code for _ in range(30)] for path in opened]
            assert statuses == [[422] * 30] * 10 + [[429] * 30] * 2
            other = httpx.HTTPTransport(local_address="127.0.0.2")
            with httpx.Client(base_url=place, transport=other, timeout=None) as client:
                assert client.get(f"{opened[-1]}/answer?seed=x").status_code == 429  # this visit has asked 30 times
                assert client.get("/", follow_redirects=True).status_code == 200
        finally:
            server.should_exit = True
            running.join(60)


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_other_methods(visit: Visiting, method: str) -> None:
    client, path, _ = visit
    assert client.request(method, f"{path}/answer").status_code == 405
