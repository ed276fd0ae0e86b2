"""Shards of many slides: what a build makes again, keeps, refuses and reports."""

import io
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import webdataset as wds
from PIL import Image

from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions
from rnagan.data.index import open_dataset
from rnagan.io.files import read_json, sha256_of_file
from rnagan.runtime.workers import Workers
from rnagan.slides.sources import find_sources
from rnagan.slides.tiling import tile_slides as build
from tests import programs
from tests.data.profiles import files, make_set

CONFIG = TilingConfig(tile_px=128, min_sharpness=0)  # the slides of these tests are smooth


def tile_slides(given, out, config, processes=1, **options):
    return build(find_sources(given)[0], out, config, BuildOptions(Workers(processes), **options))


def build_tiles(*arguments):
    return programs.run("rnagan", "build-tiles", "--min-sharpness", 0, "--processes", 1, *arguments)


def sums(folder):
    return {record["slide"]: record["sha256"] for record in map(read_json, sorted(Path(folder).glob("*.record.json")))}


@pytest.mark.slow
@pytest.mark.guard
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


def test_a_folder_of_profiles_is_refused_in_one_sentence_and_left_as_it_is(make_slide, tmp_path):
    make_set(tmp_path, 3)
    before = files(tmp_path / "profiles")
    done = build_tiles("--slides", make_slide("a.svs"), "--out", tmp_path / "profiles", "--tile-px", 128)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    sentence = r"Error: .*profiles already holds profiles of 13 genes in tpm \(list \w+\) \(profiles-00000, …\); "
    assert re.fullmatch(f"{sentence}choose another --out for 128 px at 0.5 µm.", done.stderr.strip())
    assert files(tmp_path / "profiles") == before


@pytest.mark.slow
@pytest.mark.guard
def test_a_bad_slide_costs_itself_only(make_slide, tmp_path):
    make_slide("good.svs")
    (tmp_path / "slides" / "bad.svs").write_text("no slide")
    arguments = ("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--tile-px", 128)
    result = build_tiles(*arguments, "--processes", 2)
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


@pytest.mark.slow
@pytest.mark.guard
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
            kills, delay = kills + 1, delay * 1.2
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
        "--slides", tmp_path / "slides", "--out", tmp_path / "two", "--tile-px", 128, "--max-failures", 2
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


@pytest.mark.slow
@pytest.mark.guard
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


def test_a_slide_that_loses_its_coordinates_is_not_up_to_date(make_slide, tmp_path):
    """Neither by a shard of our own mask."""
    path = make_slide("a.svs")
    write_coordinates(tmp_path / "h5" / "other.h5", [[10, 20]], patch_size_level0=128)
    assert tile_slides([path], tmp_path / "out", CONFIG).made == 1
    with_coordinates = find_sources([path], coordinates=tmp_path / "h5")[0]
    assert build(with_coordinates, tmp_path / "out", CONFIG).failures["a"].reason == "coordinates"
    assert tile_slides([path], tmp_path / "out", CONFIG).up_to_date == 1


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
    assert (summary.made, summary.tiles, list(summary.empty)) == (3, 51, ["dicom"])  # a series of 16 px
    sample = next(iter(wds.WebDataset(f"file:{tmp_path}/CMU-1-Small-Region.tar", shardshuffle=False)))
    assert Image.open(io.BytesIO(sample["jpg"])).size == (256, 256)
