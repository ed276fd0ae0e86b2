import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import webdataset as wds
from PIL import Image

from rnagan.config import TilingConfig
from rnagan.data.index import open_dataset
from rnagan.files import read_json
from rnagan.slides.tiling import contrast, find_slides, tile_slide, tile_slides

CONFIG = TilingConfig(tile_px=128)
SCRIPT = Path(__file__).parents[2] / "shards" / "build_tiles.py"


def run_script(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def sums(folder):
    return {record["slide"]: record["sha256"] for record in map(read_json, sorted(Path(folder).glob("*.record.json")))}


def test_tiles_are_the_slides_regions_at_their_positions(make_slide, tmp_path):
    image = make_slide.smooth_image(600, 900)
    image[:, 500:] = 245
    record = tile_slide(make_slide("GTEX-1.0.svs", image), tmp_path / "out", CONFIG)
    # 4 × 7 whole tiles; columns 0 to 2 are tissue, column 3 (384 … 512) has 116 of 128 pixels of it
    assert (record["slide"], record["status"], record["tiles"]) == ("GTEX-1_0", "done", 16)
    assert record["counts"] == {"background": 12, "low_contrast": 0, "over_limit": 0}
    positions = set()
    for sample in wds.WebDataset(f"file:{tmp_path}/out/GTEX-1_0.tar", shardshuffle=False).decode("rgb8"):
        about, tile = sample["json"], sample["jpg"]
        x, y = about["x"], about["y"]
        assert sample["__key__"] == f"GTEX-1_0_x{x}_y{y}"
        assert about == {"slide": "GTEX-1_0", "x": x, "y": y, "tile_px": 128, "mpp": 0.5}
        difference = np.abs(tile.astype(int) - image[y : y + 128, x : x + 128])
        assert difference.mean() < 3
        positions.add((x, y))
    assert positions == {(x, y) for x in range(0, 512, 128) for y in range(0, 512, 128)}


def test_stored_order_is_random_seeded_and_its_own_for_each_slide(make_slide, tmp_path):
    image = make_slide.smooth_image(600, 900)
    slides = [make_slide("a.svs", image), make_slide("b.svs", image)]

    def order(path, seed, folder):
        tile_slide(path, folder, CONFIG.replace(seed=seed))
        return pd.read_parquet(folder / f"{path.stem}.index.parquet")[["x", "y"]].to_numpy().tolist()

    first = order(slides[0], 0, tmp_path / "1")
    assert first == order(slides[0], 0, tmp_path / "2")
    others = [
        order(slides[0], 1, tmp_path / "3"),
        order(slides[1], 0, tmp_path / "4"),
        sorted(first, key=lambda p: p[::-1]),
    ]
    assert all(sorted(other) == sorted(first) and other != first for other in others)


def test_limit_keeps_the_first_of_the_order(make_slide, tmp_path):
    path = make_slide("a.svs")
    everything, few = (tile_slide(path, tmp_path / str(n), CONFIG.replace(max_tiles=n)) for n in (4000, 5))
    assert (few["tiles"], few["counts"]["over_limit"]) == (5, everything["tiles"] - 5)
    keys = [pd.read_parquet(tmp_path / n / "a.index.parquet")["key"].tolist() for n in ("4000", "5")]
    assert keys[1] == keys[0][:5]


@pytest.mark.parametrize(("limit", "tiles"), [(0.4, 12), (0.6, 16), (1.0, 28)])
def test_background_up_to_the_limit_is_kept(make_slide, tmp_path, limit, tiles):
    image = make_slide.smooth_image(600, 900)
    image[:, 448:] = 245  # half of the fourth column of tiles is glass
    config = CONFIG.replace(max_background=limit, min_contrast=0.0)
    assert tile_slide(make_slide("a.svs", image), tmp_path, config)["tiles"] == tiles


def test_flat_tiles_are_dropped_and_counted(make_slide, tmp_path):
    image = make_slide.smooth_image(600, 900)
    image[:, :256] = (200, 120, 180)
    record = tile_slide(make_slide("a.svs", image), tmp_path, CONFIG)
    assert record["counts"]["low_contrast"] == 8 and record["tiles"] == 20


def test_contrast_is_the_span_of_percentiles():
    grey = np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)
    low, high = np.percentile(grey, [1, 99], method="inverted_cdf")
    assert contrast(np.stack([grey] * 3, axis=2)) == pytest.approx((float(high) - float(low)) / 255, abs=1e-9)
    grey[:3, :3] = 0
    assert contrast(np.full((64, 96, 3), 77, np.uint8)) == 0


def test_slides_without_tiles_or_resolution_are_recorded_without_a_tar(make_slide, tmp_path):
    glass = tile_slide(make_slide("glass.svs", np.full((600, 900, 3), 244, np.uint8)), tmp_path / "out", CONFIG)
    unknown = tile_slide(make_slide("unknown.svs", mpp=None), tmp_path / "out", CONFIG.replace(missing_mpp="skip"))
    assert (glass["status"], unknown["status"]) == ("no_tiles", "skipped")
    assert "does not say its resolution" in unknown["source"]["reason"]
    assert not list((tmp_path / "out").glob("*.tar"))
    assumed = tile_slide(make_slide("unknown.svs", mpp=None), tmp_path / "out", CONFIG.replace(missing_mpp="0.5"))
    assert assumed["tiles"] == 16


def test_equal_bytes_on_any_number_of_processes_and_after_a_kill(make_slide, tmp_path):
    slides = [make_slide(f"{name}.svs") for name in "abc"]
    one, two = tmp_path / "1", tmp_path / "2"
    for folder, processes in ((one, 1), (two, 2)):
        assert tile_slides([slides[0].parent], folder, CONFIG, processes).made == 3
    assert sums(one) == sums(two) and len(set(sums(one).values())) == 3
    before = read_json(one / "dataset.json")
    assert before == read_json(two / "dataset.json")
    # Killed before the commit of b: its record is missing, its tar half-written
    (two / "b.record.json").unlink()
    (two / "b.tar").write_bytes(b"half")
    again = tile_slides([slides[0].parent], two, CONFIG, 1)
    assert (again.made, again.up_to_date, again.tiles) == (1, 2, 48)
    assert sums(one) == sums(two) and (one / "b.tar").read_bytes() == (two / "b.tar").read_bytes()


def test_only_what_changed_is_made_again(make_slide, tmp_path):
    slides = [make_slide(f"{name}.svs") for name in "ab"]
    tile_slides(slides, tmp_path / "out", CONFIG)
    assert tile_slides(slides, tmp_path / "out", CONFIG).made == 0
    old = sums(tmp_path / "out")
    make_slide("b.svs", make_slide.smooth_image(700, 800))
    assert tile_slides(slides, tmp_path / "out", CONFIG).made == 1
    new = sums(tmp_path / "out")
    assert new["a"] == old["a"] and new["b"] != old["b"]
    assert tile_slides(slides, tmp_path / "out", CONFIG.replace(seed=5)).made == 2
    shards = open_dataset(tmp_path / "out")
    assert shards.slides.set_index("slide").loc["b", "sha256"] == sums(tmp_path / "out")["b"]


@pytest.mark.parametrize(("change", "kind"), [({"tile_px": 64}, "64 px at 0.5"), ({"mpp": 1.0}, "128 px at 1.0")])
def test_a_folder_of_another_kind_is_refused_and_left_as_it_is(make_slide, tmp_path, change, kind):
    out, path = tmp_path / "out", make_slide("a.svs")
    tile_slides([path], out, CONFIG)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    told = f"already holds tiles of 128 px at 0.5 µm .a, ….; choose another --out for {kind} µm"
    for sources in ([path], [make_slide("b.svs")]):
        with pytest.raises(ValueError, match=told):
            tile_slides(sources, out, CONFIG.replace(**change))
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_bad_slide_costs_itself_only(make_slide, tmp_path):
    make_slide("good.svs")
    (tmp_path / "slides" / "bad.svs").write_text("no slide")
    arguments = ("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--tile-px", 128)
    result = run_script(*arguments)
    assert result.returncode == 1
    assert "bad failed:" in result.stderr and "is no slide that OpenSlide can read" in result.stderr
    assert "1 shards (1 made, 0 up to date): 16 tiles" in result.stdout and "1 failed" in result.stdout
    assert open_dataset(tmp_path / "out").slides["slide"].tolist() == ["good"]
    (tmp_path / "slides" / "bad.svs").unlink()
    result = run_script(*arguments)
    assert result.returncode == 0 and "(up to date)" in result.stdout, result.stderr


def test_a_slide_that_stops_being_readable_keeps_its_earlier_shard(make_slide, tmp_path):
    path = make_slide("a.svs")
    tile_slides([path], tmp_path / "out", CONFIG)
    before = open_dataset(tmp_path / "out")
    path.write_text("broken")
    assert list(tile_slides([path], tmp_path / "out", CONFIG).failures) == ["a"]
    after = open_dataset(tmp_path / "out")
    assert after.digest == before.digest and len(after.index("a")) == 16


def test_two_files_with_one_id_are_refused(make_slide):
    make_slide("a.b.svs")
    path = make_slide("a_b.svs")
    with pytest.raises(ValueError, match="would both become slide a_b"):
        find_slides([path.parent])
    with pytest.raises(FileNotFoundError, match="holds no slide"):
        (path.parent / "empty").mkdir()
        find_slides([path.parent / "empty"])


def test_script_says_what_it_needs(tmp_path):
    assert "Give either --slides or --tiles" in run_script("--out", tmp_path).stderr
    result = run_script("--slides", tmp_path, "--out", tmp_path / "out", "--missing-mpp", "often")
    assert result.returncode == 1 and "missing_mpp must be error, skip or a positive number" in result.stderr


REAL = Path(__file__).parents[3] / "shared" / "data" / "slides"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real slides are not here")
def test_real_slides(tmp_path):
    summary = tile_slides([REAL], tmp_path, TilingConfig())
    assert (summary.made, summary.tiles) == (2, 51)
    sample = next(iter(wds.WebDataset(f"file:{tmp_path}/CMU-1-Small-Region.tar", shardshuffle=False)))
    assert Image.open(io.BytesIO(sample["jpg"])).size == (256, 256)
