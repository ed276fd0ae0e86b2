import io
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import webdataset as wds
from PIL import Image

from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions
from rnagan.data.image_codec import decode_image
from rnagan.data.index import open_dataset
from rnagan.data.manifest import write_digest
from rnagan.data.verify import check_folder
from rnagan.io.files import read_json, sha256_of_file
from rnagan.runtime.workers import Workers
from rnagan.slides.slide import Slide
from rnagan.slides.sources import find_sources
from rnagan.slides.tiling import REASONS, tile_slide
from rnagan.slides.tiling import tile_slides as build
from tests import programs

CONFIG = TilingConfig(tile_px=128, min_sharpness=0)  # the slides of these tests are smooth


def tile_slides(given, out, config, processes=1, **options):
    return build(find_sources(given)[0], out, config, BuildOptions(Workers(processes), **options))


def build_tiles(*arguments):
    return programs.run("rnagan", "build-tiles", "--min-sharpness", 0, *arguments)


def sums(folder):
    return {record["slide"]: record["sha256"] for record in map(read_json, sorted(Path(folder).glob("*.record.json")))}


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
    before = {file.name: file.read_bytes() for file in out.rglob("*.*") if file.is_file()}
    sentence = f"already holds tiles of 128 px at 0.5 µm .a, ….; choose another --out for {kind} µm"
    for sources in ([path], [make_slide("b.svs")]):
        with pytest.raises(ValueError, match=sentence):
            tile_slides(sources, out, CONFIG.replace(**change))
    assert {file.name: file.read_bytes() for file in out.rglob("*.*") if file.is_file()} == before


def test_a_bad_slide_costs_itself_only(make_slide, tmp_path):
    make_slide("good.svs")
    (tmp_path / "slides" / "bad.svs").write_text("no slide")
    arguments = ("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--tile-px", 128)
    result = build_tiles(*arguments)
    assert result.returncode == 1
    assert "bad failed:" in result.stderr and "is no slide that OpenSlide can read" in result.stderr
    assert "1 shards (1 made, 0 up to date): 16 tiles" in result.stdout and "1 failed" in result.stdout
    assert open_dataset(tmp_path / "out").slides["slide"].tolist() == ["good"]
    (tmp_path / "slides" / "bad.svs").unlink()
    result = build_tiles(*arguments)
    assert result.returncode == 0 and "(up to date)" in result.stdout, result.stderr


def test_a_slide_that_stops_being_readable_keeps_its_earlier_shard(make_slide, tmp_path):
    path = make_slide("a.svs")
    tile_slides([path], tmp_path / "out", CONFIG)
    before = open_dataset(tmp_path / "out")
    path.write_text("broken")
    assert list(tile_slides([path], tmp_path / "out", CONFIG).failures) == ["a"]
    after = open_dataset(tmp_path / "out")
    assert after.digest == before.digest and len(after.index("a")) == 16


def test_script_says_what_it_needs(tmp_path):
    assert "Give either --slides or --tiles" in build_tiles("--out", tmp_path).stderr
    result = build_tiles("--slides", tmp_path, "--out", tmp_path / "out", "--missing-mpp", "often")
    assert result.returncode == 1 and "missing_mpp must be error, skip or a positive number" in result.stderr


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


def test_kill_at_any_moment_leaves_nothing_that_is_trusted(make_slide, tmp_path):
    """A run is killed again and again, each time a little later, until one gets through."""
    for n in range(4):
        make_slide(f"s{n}.svs", make_slide.smooth_image(1100, 1500, seed=n))
    command = ["rnagan", "build-tiles", "--slides", tmp_path / "slides", "--tile-px", 64, "--min-sharpness", 0]
    command += ["--processes", 1]
    programs.run(*command, "--out", tmp_path / "whole").check()
    whole, out, kills, delay = sums(tmp_path / "whole"), tmp_path / "out", 0, 0.2
    while True:
        try:
            programs.run(*command, "--out", out, timeout=delay).check()
            break
        except TimeoutError:
            kills, delay = kills + 1, delay + 0.05
        committed = sums(out) if out.is_dir() else {}
        assert committed == {slide: whole[slide] for slide in committed}
        for slide, digest in committed.items():
            assert sha256_of_file(out / f"{slide}.tar") == digest
    assert kills and sums(out) == whole
    assert read_json(out / "dataset.json") == read_json(tmp_path / "whole" / "dataset.json")


def test_a_copied_slide_is_known_by_its_quickhash(make_slide, tmp_path):
    path = make_slide("a.svs")
    tile_slides([path], tmp_path / "out", CONFIG)
    before = (tmp_path / "out" / "a.tar").stat().st_mtime_ns
    os.utime(path, (1, 1))
    again = tile_slides([path], tmp_path / "out", CONFIG)
    assert (again.made, again.up_to_date, again.tiles) == (0, 1, 16)
    assert (tmp_path / "out" / "a.tar").stat().st_mtime_ns == before
    assert read_json(tmp_path / "out" / "a.record.json")["source"]["modified_ns"] == 10**9
    path.write_bytes(path.read_bytes().replace(b"MPP = 0.5", b"MPP = 0.4"))
    assert tile_slides([path], tmp_path / "out", CONFIG).made == 1


def test_a_slide_that_changes_while_a_build_runs_is_made_again_by_the_next(make_slide, tmp_path):
    """Its stamp is that of before it was read, whether it changed in between or while it was read."""
    path = make_slide("a.svs")
    sources, _ = find_sources([path])
    assert sources[0].stamp["bytes"] == path.stat().st_size
    before = sources[0].stamp["modified_ns"]
    make_slide("a.svs", make_slide.smooth_image(700, 800))
    build(sources, tmp_path / "out", CONFIG)
    assert read_json(tmp_path / "out" / "a.record.json")["source"]["modified_ns"] == before
    assert tile_slides([path], tmp_path / "out", CONFIG).made == 1
    assert tile_slides([path], tmp_path / "out", CONFIG).made == 0


def test_a_tar_that_is_gone_is_made_again(make_slide, tmp_path):
    path = make_slide("a.svs")
    tile_slides([path], tmp_path / "out", CONFIG)
    before = sums(tmp_path / "out")
    (tmp_path / "out" / "a.tar").unlink()
    assert tile_slides([path], tmp_path / "out", CONFIG).made == 1 and sums(tmp_path / "out") == before


def test_parts_together_make_the_whole(make_slide, tmp_path):
    slides = [make_slide(f"{name}.svs") for name in "abcde"]
    tile_slides(slides, tmp_path / "whole", CONFIG)
    parts = [tile_slides(slides, tmp_path / "parts", CONFIG, part=(part, 3)) for part in (3, 1, 2)]
    assert [part.made for part in parts] == [1, 2, 2]
    assert sums(tmp_path / "whole") == sums(tmp_path / "parts")
    assert read_json(tmp_path / "whole" / "dataset.json") == read_json(tmp_path / "parts" / "dataset.json")


def test_failures_are_grouped_listed_and_end_a_hopeless_run(make_slide, tmp_path):
    make_slide("good.svs")
    make_slide("unknown.svs", mpp=None)
    for name in "xyz":
        (tmp_path / "slides" / f"{name}.svs").write_text("no slide")
    summary = tile_slides([tmp_path / "slides"], tmp_path / "out", CONFIG)
    assert {slide: failure.reason for slide, failure in summary.failures.items()} == {
        "unknown": "no resolution",
        **dict.fromkeys("xyz", "unreadable"),
    }
    assert "4 failed (1 no resolution, 3 unreadable)." in str(summary) and summary.made == 1
    listed = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert listed["slide"].tolist() == ["unknown", "x", "y", "z"]
    assert listed["sentence"].str.contains("no slide that OpenSlide can read").sum() == 3
    for name in "xyz":
        (tmp_path / "slides" / f"{name}.svs").unlink()
    tile_slides([tmp_path / "slides"], tmp_path / "out", CONFIG.replace(missing_mpp="skip"))
    assert not (tmp_path / "out" / "failures.csv").exists()

    for n in range(6):
        (tmp_path / "slides" / f"bad{n}.svs").write_text("no slide")
    result = build_tiles(
        "--slides", tmp_path / "slides", "--out", tmp_path / "two", "--tile-px", 128, "--processes", 1,
        "--max-failures", 2,
    )  # fmt: skip
    assert result.returncode == 3 and "not begun after so many failures" in result.stdout
    assert len(pd.read_csv(tmp_path / "two" / "failures.csv")) == 2


def test_lists_of_failures_of_other_parts_go(make_slide, tmp_path):
    make_slide("good.svs")
    (tmp_path / "slides" / "bad.svs").write_text("no slide")

    def lists(part=None):
        tile_slides([tmp_path / "slides"], tmp_path / "out", CONFIG, part=part)
        return sorted(path.name for path in (tmp_path / "out").glob("failures*"))

    assert lists((1, 2)) == lists((2, 2)) == ["failures_part1of2.csv"]
    assert lists((1, 3)) == ["failures_part1of3.csv"]
    assert lists() == ["failures.csv"]


def test_dry_run_says_what_a_build_would_do(make_slide, tmp_path):
    make_slide("a.svs")
    make_slide("b.svs", make_slide.smooth_image(600, 900), mpp=0.25)
    make_slide("c.svs", mpp=None, power=40)
    make_slide("d.svs", mpp=None)
    result = build_tiles("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--tile-px", 64, "--dry-run")
    assert result.returncode == 1 and not (tmp_path / "out").exists()
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert rows[0] == "slide width_px height_px mpp source level reduced_by stored_mpp tiles"
    assert rows[1] == "a 900 600 0.5 openslide 0 1 0.5 72"
    assert rows[2].startswith("b 900 600 0.25 openslide 1 1 0.5")
    assert rows[3].startswith("c 900 600 0.25 objective 1 1 0.5")
    assert "d: " in result.stdout and "does not say its resolution" in result.stdout
    assert "3 slides would give up to" in result.stdout and "1 can't be made" in result.stdout
    made = tile_slides([tmp_path / "slides" / "a.svs"], tmp_path / "out", CONFIG.replace(tile_px=64, min_contrast=0))
    assert made.tiles == 72


def test_a_cohort_table_chooses_slides_and_gives_resolutions(make_slide, tmp_path):
    for name in "abc":
        make_slide(f"{name}.svs", mpp=None)
    (tmp_path / "cohort.csv").write_text("sample,slide,mpp\ns1,a,0.5\ns2,b.svs,0.25\ns3,zz,\n")
    arguments = ("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--tile-px", 128)
    result = build_tiles(*arguments, "--cohort", tmp_path / "cohort.csv")
    assert result.returncode == 0, result.stderr
    assert "1 slides are not in" in result.stdout and "1 slides are missing, though they are in" in result.stdout
    records = {name: read_json(tmp_path / "out" / f"{name}.record.json")["source"] for name in "ab"}
    assert {name: (record["mpp"], record["mpp_source"]) for name, record in records.items()} == {
        "a": (0.5, "cohort"),
        "b": (0.25, "cohort"),
    }
    assert sorted(sums(tmp_path / "out")) == ["a", "b"]
    (tmp_path / "cohort.csv").write_text("sample,slide,mpp\ns1,a,0.5\ns2,b.svs,0.5\n")
    result = build_tiles(*arguments, "--cohort", tmp_path / "cohort.csv")
    assert "(1 made, 1 up to date)" in result.stdout  # b's resolution was mended


def write_coordinates(path, positions, **attributes):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("coords", data=np.array(positions, np.int64)).attrs.update(attributes)


def test_coordinates_of_trident_and_clam_are_used_instead_of_our_mask(make_slide, tmp_path):
    for name in "abc":
        make_slide(f"{name}.svs", make_slide.smooth_image(600, 900))
    folder = tmp_path / "coordinates" / "patches"
    write_coordinates(folder / "a_patches.h5", [[10, 20], [300, 7], [800, 20]], patch_size_level0=128, patch_size=256)
    write_coordinates(folder / "b.h5", [[33, 44]], patch_size=64, patch_level=1, downsample=(2.0, 2.0))
    arguments = ("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--tile-px", 128)
    result = build_tiles(*arguments, "--coordinates", folder.parent)
    assert result.returncode == 1 and "c.svs has no .h5 file in the coordinates folder" in result.stderr
    shards = open_dataset(tmp_path / "out")
    assert sorted(shards.index("a")[["x", "y"]].to_numpy().tolist()) == [[10, 20], [300, 7]]
    assert shards.index("b")[["x", "y"]].to_numpy().tolist() == [[33, 44]]
    assert shards.slides.set_index("slide")["outside"].to_dict() == {"a": 1, "b": 0}
    write_coordinates(folder / "b.h5", [[33, 44], [50, 44]], patch_size_level0=128)
    assert "(1 made, 1 up to date)" in build_tiles(*arguments, "--coordinates", folder.parent).stdout
    write_coordinates(folder / "b.h5", [[33, 44]], patch_size_level0=512)
    errors = build_tiles(*arguments, "--coordinates", folder.parent).stderr
    assert "b.h5 has patches of 512 level-0 px, and a tile here spans 128; choose --tile-px and --mpp" in errors


def test_qc_pictures_and_contact_sheet(make_slide, tmp_path):
    make_slide("a.svs")
    make_slide("glass.svs", np.full((600, 900, 3), 244, np.uint8))
    (tmp_path / "slides" / "bad.svs").write_text("no slide")
    build_tiles("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--tile-px", 128)
    assert sorted(path.name for path in (tmp_path / "out" / "qc").iterdir()) == [
        "a.jpg",
        "contact_sheet.png",
        "glass.jpg",
    ]
    assert build_tiles("--slides", tmp_path / "slides", "--out", tmp_path / "no", "--no-qc").returncode == 1
    assert not (tmp_path / "no" / "qc").exists()


REAL = Path(__file__).parents[3] / "shared" / "data" / "slides"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real slides are not here")
def test_real_slides(tmp_path):
    summary = tile_slides([REAL], tmp_path, TilingConfig())
    assert (summary.made, summary.tiles) == (2, 51)
    sample = next(iter(wds.WebDataset(f"file:{tmp_path}/CMU-1-Small-Region.tar", shardshuffle=False)))
    assert Image.open(io.BytesIO(sample["jpg"])).size == (256, 256)
