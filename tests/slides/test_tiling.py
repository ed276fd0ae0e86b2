"""Which tiles of a slide are kept, and what of each is stored."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import webdataset as wds
from PIL import Image

from rnagan.config.tiling import TilingConfig
from rnagan.data.image_codec import decode_image
from rnagan.data.set_digest import write_digest
from rnagan.data.verify import check_folder
from rnagan.slides.slide import Slide
from rnagan.slides.sources import SlideSource
from rnagan.slides.tiling import REASONS, tile_slide

CONFIG = TilingConfig(tile_px=128, min_sharpness=0)  # the slides of these tests are smooth


def test_tiles_are_the_slides_regions_at_their_positions(make_slide, tmp_path):
    image = make_slide.smooth_image(600, 900)
    image[:, 500:] = 245
    record = tile_slide(make_slide("GTEX-1.0.svs", image), tmp_path / "out", CONFIG)
    # 4 × 7 whole tiles; columns 0 to 2 are tissue, column 3 (384 … 512) has 116 of 128 pixels of it
    assert (record["slide"], record["status"], record["tiles"]) == ("GTEX-1_0", "done", 16)
    assert record["counts"] == dict.fromkeys(REASONS, 0) | {"background": 12}
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


@pytest.mark.parametrize(("limit", "tiles"), [(0.1, 14), (0.55, 21)])
def test_tiles_with_ink_are_dropped_and_counted(make_slide, tmp_path, limit, tiles):
    """A pen's stroke covers two thirds of the third of four rows of tiles, and a third of the fourth."""
    image = np.full((1024, 1792, 3), (200, 130, 190), np.uint8)
    image[600:856] = (40, 70, 170)
    config = CONFIG.replace(tile_px=256, max_ink=limit, min_contrast=0.0)
    record = tile_slide(make_slide("a.svs", image), tmp_path, config)
    assert (record["tiles"], record["counts"]["ink"], record["counts"]["background"]) == (tiles, 28 - tiles, 0)
    assert pd.read_parquet(tmp_path / "a.index.parquet")["y"].max() == (256 if limit < 0.5 else 768)


def test_tiles_out_of_focus_are_dropped_and_counted(make_slide, tmp_path):
    image = make_slide.smooth_image(600, 900)
    grain = np.random.default_rng(0).normal(0, 25, (600, 384, 1))
    image[:, :384] = np.clip(image[:, :384] + grain, 0, 255)
    record = tile_slide(make_slide("a.svs", image), tmp_path, CONFIG.replace(min_sharpness=20))
    assert (record["tiles"], record["counts"]["out_of_focus"]) == (12, 16)


def test_slides_without_tiles_or_resolution_are_recorded_without_a_tar(make_slide, tmp_path):
    glass = tile_slide(make_slide("glass.svs", np.full((600, 900, 3), 244, np.uint8)), tmp_path / "out", CONFIG)
    unknown = tile_slide(make_slide("unknown.svs", mpp=None), tmp_path / "out", CONFIG.replace(missing_mpp="skip"))
    assert (glass["status"], unknown["status"]) == ("no_tiles", "skipped") and glass["counts"]["background"] == 28
    assert "does not say its resolution" in unknown["source"]["reason"]
    assert not list((tmp_path / "out").glob("*.tar"))
    assumed = tile_slide(make_slide("unknown.svs", mpp=None), tmp_path / "out", CONFIG.replace(missing_mpp="0.5"))
    assert assumed["tiles"] == 16


@pytest.mark.parametrize(
    ("options", "given", "source"),
    [
        ({"mpp": 0.265}, None, "openslide"),  # beside an objective of 20, which would mean 0.5
        ({"mpp": None, "resolution": (1e4 / 0.265,) * 2, "resolutionunit": "CENTIMETER"}, None, "tiff"),
        ({"mpp": 0.25}, 0.265, "cohort"),
    ],
    ids=["openslide", "tags", "cohort"],
)
@pytest.mark.parametrize(
    ("asked", "stored", "size"), [(0.265, 0.265, 128), (0.27, 0.265, 128), (0.53, 0.53, 256), (0.5, 0.5, 241.5)]
)
def test_a_true_mpp_is_not_rounded_to_a_magnification(
    make_slide, tmp_path, options, given, source, asked, stored, size
):
    """0.265 µm is no 40× of 0.25: tiles span what they say, and say what they span."""
    path = make_slide("a.svs", make_slide.smooth_image(600, 900), **options)
    record = tile_slide(SlideSource(path, given), tmp_path, CONFIG.replace(mpp=asked, min_contrast=0))
    assert (record["source"]["mpp"], record["source"]["mpp_source"]) == (pytest.approx(0.265, abs=1e-6), source)
    tiles = [json.loads(sample["json"]) for sample in wds.WebDataset(f"file:{tmp_path}/a.tar", shardshuffle=False)]
    assert [tile["mpp"] for tile in tiles] == pytest.approx([stored] * len(tiles), abs=1e-6)
    assert len(tiles) == int(900 / size) * int(600 / size)
    assert sorted({tile["x"] for tile in tiles}) == pytest.approx([n * size for n in range(int(900 / size))], abs=1)


def test_order_of_reading_changes_nothing(make_slide, tmp_path, monkeypatch):
    """Tiles are kept as if they had been read one by one in the order in which they are stored."""
    image = make_slide.smooth_image(600, 900)
    image[100:400, 200:700] = (200, 120, 180)  # flat: dropped, so that later tiles move up
    path, config = make_slide("a.svs", image), CONFIG.replace(max_tiles=9)
    in_rows = tile_slide(path, tmp_path / "rows", config)
    monkeypatch.setattr("rnagan.slides.tiling.reading_order", lambda positions, _: np.arange(len(positions)))
    one_by_one = tile_slide(path, tmp_path / "one", config)
    assert in_rows["counts"]["low_contrast"] > 0 and in_rows["tiles"] == 9
    assert in_rows == one_by_one  # the tar's sha256 among it


def test_tiles_that_wait_in_a_file_make_the_same_tar(make_slide, tmp_path, monkeypatch):
    path = make_slide("a.svs")
    in_memory = tile_slide(path, tmp_path / "memory", CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnagan.slides.tiling.WAITING_BYTES", 20_000)
        assert tile_slide(path, tmp_path / "file", CONFIG) == in_memory
    assert not [left.name for left in (tmp_path / "file").iterdir() if left.name.startswith((".", "tmp"))]


def test_a_40x_slide_gives_the_tiles_of_its_means_over_2_by_2(make_slide, tmp_path):
    image = make_slide.smooth_image(1200, 1800)
    with pytest.MonkeyPatch.context() as patch:  # its half-size level is hidden: level 0 must be reduced
        patch.setattr("rnagan.slides.slide.choose_level", lambda *_: (0, 2.0))
        record = tile_slide(make_slide("a.svs", image, mpp=0.25), tmp_path, CONFIG)
    assert (record["source"]["level"], record["source"]["mpp"], record["tiles"]) == (0, 0.25, 28)
    half = image.reshape(600, 2, 900, 2, 3).mean((1, 3))
    for sample in wds.WebDataset(f"file:{tmp_path}/a.tar", shardshuffle=False).decode("rgb8"):
        about, x, y = sample["json"], sample["json"]["x"] // 2, sample["json"]["y"] // 2
        assert about["mpp"] == 0.5
        assert np.abs(sample["jpg"] - half[y : y + 128, x : x + 128]).mean() < 3


@pytest.mark.parametrize("keep", [True, False])
def test_the_slides_own_tiles_are_stored_without_a_second_loss(make_slide, tmp_path, keep):
    """What a reader of the shard sees is what OpenSlide shows, to the last bit."""
    image = make_slide.smooth_image(700, 1100)
    path = make_slide("a.svs", image, photometric="ycbcr", subsampling=(2, 2))
    config = CONFIG.replace(tile_px=256, keep_jpeg=keep, ink=False)
    assert tile_slide(path, tmp_path, config)["tiles"] == 8
    differences = []
    with Slide(path, native=False) as slide:
        for sample in wds.WebDataset(f"file:{tmp_path}/a.tar", shardshuffle=False):
            about = json.loads(sample["json"])
            seen = np.asarray(Image.open(io.BytesIO(sample["jpg"])).convert("RGB")).astype(int)
            assert np.array_equal(seen, decode_image(sample["jpg"]))
            differences.append(np.abs(seen - slide.read(about["x"], about["y"], 256, 0.5)).max())
    assert (max(differences) == 0) == keep and max(differences) < 10
    assert check_folder_is_sound(tmp_path)


def check_folder_is_sound(folder):
    write_digest(folder)
    return check_folder(folder, decode=True).findings == []


@pytest.mark.parametrize(
    ("options", "change", "as_stored"),
    [
        ({"photometric": "ycbcr", "subsampling": (2, 2)}, {}, True),
        ({"photometric": "ycbcr", "subsampling": (2, 2), "side": 240}, {}, False),  # cut from four
        ({"photometric": "ycbcr", "subsampling": (2, 2)}, {"mpp": 0.7}, False),  # resampled
        ({"photometric": "ycbcr", "subsampling": (2, 2)}, {"tile_px": 128}, False),  # a quarter of one
        ({"compression": 33005}, {}, False),
    ],
)
def test_only_whole_tiles_of_the_slide_are_stored_as_they_are(make_slide, tmp_path, options, change, as_stored):
    path = make_slide("a.svs", make_slide.smooth_image(700, 1100), **options)
    config = CONFIG.replace(tile_px=256, ink=False).replace(**change)
    kept, anew = (tile_slide(path, tmp_path / str(n), config.replace(keep_jpeg=n > 0)) for n in (1, 0))
    assert kept["tiles"] == anew["tiles"] > 0 and (kept["sha256"] != anew["sha256"]) == as_stored


def test_rgb_tiles_are_encoded_anew_since_not_every_decoder_knows_them(make_slide, tmp_path):
    path = make_slide.unmarked_rgb("a.svs", make_slide.smooth_image(700, 1100))
    config = CONFIG.replace(tile_px=256, ink=False)
    kept, anew = (tile_slide(path, tmp_path / str(n), config.replace(keep_jpeg=n > 0)) for n in (1, 0))
    assert kept["sha256"] == anew["sha256"] and kept["tiles"] == 8
