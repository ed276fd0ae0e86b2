"""What can't be read of a slide costs those tiles, counted and capped; a slide that gives none is a warning."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from click.testing import CliRunner

from rnagan.commands.build_tiles import main
from rnagan.config.tiling import TilingConfig
from rnagan.data.index import open_dataset
from rnagan.slides.slide import DamagedSlideError, Slide
from rnagan.slides.sources import SlideSource
from rnagan.slides.tiling import tile_slide, tile_slides

CONFIG = TilingConfig(tile_px=128, min_sharpness=0, ink=False)  # the slides of these tests are smooth


def damage(path, tiles, page=0):
    """Overwrite some of the slide's own tiles, by number, with zeros."""
    with tifffile.TiffFile(path) as tiff:
        places = [(tiff.pages[page].dataoffsets[n], tiff.pages[page].databytecounts[n]) for n in tiles]
    data = bytearray(path.read_bytes())
    for offset, size in places:
        data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    return path


def positions(folder, slide):
    return set(open_dataset(folder).index(slide)[["x", "y"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("compression", ["jpeg", 33005])
def test_an_unreadable_region_costs_its_tiles_alone(make_slide, tmp_path, compression):
    image = make_slide.smooth_image(768, 1024)
    whole = tile_slides([SlideSource(make_slide("a.svs", image, compression=compression))], tmp_path / "whole", CONFIG)
    damage(tmp_path / "slides/a.svs", [5])  # 256 … 511 both ways
    build = tile_slides([SlideSource(tmp_path / "slides/a.svs")], tmp_path / "out", CONFIG)
    lost = {(x, y) for x in (256, 384) for y in (256, 384)}
    assert (whole.tiles, build.tiles, build.left_out) == (48, 44, {"unreadable": 4}) and not build.failures
    assert positions(tmp_path / "out", "a") == positions(tmp_path / "whole", "a") - lost
    assert "left out: 4 unreadable; 0 failed" in str(build)
    assert open_dataset(tmp_path / "out").slides["unreadable"].tolist() == [4]
    assert "unreadable" not in open_dataset(tmp_path / "whole").slides
    pixels = [tile_slide(tmp_path / "slides/a.svs", tmp_path / "again", CONFIG) for _ in range(2)]
    assert pixels[0] == pixels[1] and pixels[0]["tiles"] == 44


def test_more_than_the_cap_fails_the_slide(make_slide, tmp_path):
    path = damage(make_slide("a.svs", make_slide.smooth_image(768, 1024)), [5, 6])
    with pytest.raises(DamagedSlideError, match=r"a\.svs is damaged at x \d+, y \d+ .* More than 10% of its tiles"):
        tile_slide(path, tmp_path, CONFIG, max_unreadable=0.1)
    assert tile_slide(path, tmp_path, CONFIG, max_unreadable=0.2)["counts"]["unreadable"] == 8


@pytest.mark.parametrize("page", [0, 2])
def test_a_thumbnail_of_a_damaged_level_has_a_hole(make_slide, tmp_path, page):
    """Whichever level is damaged: where the thumbnail can't be read, the tiles themselves are tried."""
    image = make_slide.smooth_image(1024, 1280)
    path = damage(make_slide("a.svs", image), [0], page)
    with Slide(path) as slide:
        thumbnail = slide.thumbnail(slide.mpp * (1, 0, 2)[page])
    assert thumbnail.unreadable[:256, :256].all() and (thumbnail.pixels[:256, :256] == 255).all()
    beyond = 256 + 32  # it is given up in pieces
    assert not thumbnail.unreadable[beyond:].any() and not thumbnail.unreadable[:, beyond:].any()
    assert thumbnail.pixels[beyond:, beyond:].max() < 250
    record = tile_slide(path, tmp_path / "out", CONFIG.replace(thumbnail_mpp=1.0))
    assert (record["tiles"], record["counts"].get("unreadable", 0)) == ((76, 4) if page == 0 else (80, 0))


def test_a_slide_that_is_mostly_gone_fails(make_slide, tmp_path):
    path = damage(make_slide("a.svs", make_slide.smooth_image(768, 1024)), range(12))
    damage(path, range(2), page=2)
    with pytest.raises(DamagedSlideError, match=r"a\.svs is damaged"):
        tile_slide(path, tmp_path, CONFIG)


def test_a_mended_copy_is_tiled_again(make_slide, tmp_path):
    image = make_slide.smooth_image(768, 1024)
    source = SlideSource(damage(make_slide("a.svs", image), [5]))
    assert tile_slides([source], tmp_path / "out", CONFIG).tiles == 44
    mended = tile_slides([SlideSource(make_slide("a.svs", image))], tmp_path / "out", CONFIG)
    assert (mended.made, mended.tiles) == (1, 48)


def build_tiles(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments), "--tile-px", "128", "--processes", "1", "--no-qc"])


def test_slides_without_a_tile_are_named_and_too_many_change_the_exit_code(make_slide, tmp_path):
    for name in "abcd":
        make_slide(f"{name}.svs", make_slide.smooth_image(600, 900))
    make_slide("glass.svs", np.full((600, 900, 3), 244, np.uint8))
    arguments = ("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--min-sharpness", 0)
    few = build_tiles(*arguments)
    assert few.exit_code == 0 and "Warning: glass gives no tile: 28 background." in few.output
    make_slide("tiny.svs", make_slide.smooth_image(100, 100))
    many = build_tiles(*arguments)
    assert many.exit_code == 4, many.output
    assert "Warning: tiny gives no tile: there is no place for a whole tile." in many.output
    assert "33% of the slides give no tile, more than --max-without-tiles allows (20%)" in many.output
    assert build_tiles(*arguments, "--max-without-tiles", 0.5).exit_code == 0
    assert len(open_dataset(tmp_path / "out").slides.query("tiles > 0")) == 4  # whatever the exit code


def test_a_name_that_is_unfit_costs_its_slide(make_slide, tmp_path):
    make_slide("good.svs")
    make_slide("bad\tname.svs")
    make_slide("x" * 71 + ".svs")
    result = build_tiles("--slides", tmp_path / "slides", "--out", tmp_path / "out", "--min-sharpness", 0)
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert "'bad\\tname' is no name for a shard, which has 1 to 70 bytes" in result.output
    assert "1 shards (1 made, 0 up to date)" in result.output and "2 failed (2 name)" in result.output
    assert sorted(pd.read_csv(tmp_path / "out/failures.csv")["slide"]) == ["bad\tname", "x" * 71]


def test_sources_of_one_name_are_refused(make_slide, tmp_path):
    sources = [SlideSource(make_slide(f"{folder}/a.svs")) for folder in ("one", "two")]
    with pytest.raises(ValueError, match=r"Several sources would become one shard \(a\); rename or remove some"):
        tile_slides(sources, tmp_path / "out", CONFIG)
    assert not list((tmp_path / "out").glob("*"))


def test_slides_that_are_links_become_shards_of_their_own_names(make_slide, tmp_path):
    """Two links to files of one name, and one file under two names: three shards."""
    (tmp_path / "farm").mkdir()
    for name, store in (("p1", "one"), ("p2", "two"), ("p3", "two")):
        target = make_slide(f"{store}/scan.svs", make_slide.smooth_image(600, 900, seed=len(store + store[0])))
        (tmp_path / "farm" / f"{name}.svs").symlink_to(target)
    result = build_tiles("--slides", tmp_path / "farm", "--out", tmp_path / "out", "--min-sharpness", 0)
    assert result.exit_code == 0, result.output
    assert "2 slides are one file under several names: p2, p3." in result.output
    assert open_dataset(tmp_path / "out").slides["slide"].tolist() == ["p1", "p2", "p3"]
    again = build_tiles(
        *(tmp_path / "farm/p3.svs", tmp_path / "farm/p1.svs"), "--out", tmp_path / "out", "--min-sharpness", 0
    )
    assert "(up to date)" in again.output
