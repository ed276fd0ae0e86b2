"""Whatever the levels of a pyramid say, what is read is level 0, reduced; or the slide is refused in a sentence."""

import numpy as np
import pytest
import tifffile

from rnagan.data.build_jobs import SourceError
from rnagan.slides import pyramid
from rnagan.slides.pyramid import same_shape
from rnagan.slides.slide import Slide
from rnagan.slides.tiff_pages import UnusablePagesError


def textured(height, width, rng):
    """RGB patches of 24 px in colours of their own on a slope, so that no place looks like another."""
    patches = rng.integers(60, 200, (height // 24 + 1, width // 24 + 1, 3)).repeat(24, 0).repeat(24, 1)[:height, :width]
    slope = np.linspace(0, 40, width)[None, :, None]
    return (patches + slope).astype(np.uint8)


def area_means(image, factor):
    """The picture at a whole fraction of its resolution: means over squares, the cut ones at the far edges left out."""
    height, width = (side // factor * factor for side in image.shape[:2])
    squares = image[:height, :width].astype(float).reshape(height // factor, factor, width // factor, factor, 3)
    return squares.mean((1, 3))


def padded(level, side, fill=240):
    height, width = (-(-length // side) * side for length in level.shape[:2])
    out = np.full((height, width, 3), fill, np.uint8)
    out[: level.shape[0], : level.shape[1]] = level
    return out


def write_pyramid(path, levels, side=128, compression=None, orientation=1, reduced=True, mpp=0.5, **options):
    """A plain TIFF of the given levels in tiles of `side` px; OpenSlide takes `reduced` pages for levels."""
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                np.ascontiguousarray(level),
                tile=(side, side),
                photometric="rgb",
                compression=compression,
                compressionargs={"level": 95} if compression == "jpeg" else None,
                resolution=(10_000 / mpp, 10_000 / mpp),
                resolutionunit="CENTIMETER",
                subfiletype=1 if number and reduced else 0,
                extratags=[] if orientation == 1 else [(274, "H", 1, orientation, False)],
                metadata=None,
                **options,
            )
    return path


def random_pyramid(path, seed, turned=True):
    """A slide of levels that may be padded, of another picture, empty, or right; returns its image and what it is."""
    rng = np.random.default_rng(seed)
    image = textured(*rng.integers(400, 900, 2), rng)
    side, levels, kinds = int(rng.choice([64, 128, 256])), [image], []
    factor = 1
    for _ in range(rng.integers(1, 4)):
        factor *= int(rng.choice([2, 3, 4]))
        level = area_means(image, factor).round().astype(np.uint8)
        if min(level.shape[:2]) < 24:
            break
        kinds.append(str(rng.choice(["right", "padded", "other picture", "empty"], p=[0.4, 0.3, 0.2, 0.1])))
        match kinds[-1]:
            case "padded":
                level = padded(level, side)
            case "other picture":
                level = textured(*level.shape[:2], rng)
            case "empty":
                level = np.full_like(level, 255)
        levels.append(level)
    orientation = int(rng.choice([1, 1, 1, 3, 6])) if turned else 1
    write_pyramid(path, levels, side, rng.choice([None, "jpeg"]), orientation)
    return image, orientation, kinds


def largest_error(slide, image, rng):
    """Mean difference in grey levels of the worst of many squares, and of the thumbnail, from the area means."""
    errors = []
    for factor in (1, 2, 3, 4, 8):
        size = 48 if factor < 8 else 24
        expected = area_means(image, factor)
        for _ in range(3):
            row, column = (int(rng.integers(0, length - size)) for length in expected.shape[:2])
            tile = slide.read(column * factor, row * factor, size, 0.5 * factor)
            errors.append(np.abs(tile - expected[row : row + size, column : column + size]).mean())
    seen = slide.thumbnail(0.5 * factor).pixels[: expected.shape[0], : expected.shape[1]]
    errors.append(np.abs(seen - expected).mean())
    return max(errors)


SEEDS = range(24)
LIMIT = 20.0  # grey levels; another picture is off by 40, and a pixel of rounding at the coarsest level by 13


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_read_is_level_0_reduced(tmp_path, seed):
    image, orientation, kinds = random_pyramid(tmp_path / "a.tif", seed)
    if orientation != 1:
        with pytest.raises(UnusablePagesError, match=rf"a\.tif is to be turned .*TIFF orientation {orientation}"):
            Slide(tmp_path / "a.tif")
        return
    try:
        slide = Slide(tmp_path / "a.tif")
    except SourceError as error:  # OpenSlide itself refuses levels whose order padding has changed
        assert "padded" in kinds and "is no slide that OpenSlide can read" in str(error)
        return
    with slide:
        assert (slide.width_px, slide.height_px) == image.shape[1::-1]
        assert largest_error(slide, image, np.random.default_rng(seed)) < LIMIT, kinds


@pytest.mark.slow
@pytest.mark.guard
def test_levels_that_are_believed_are_seen_by_that_test(tmp_path, monkeypatch):
    """The random pyramids hold lies, and the oracle tells: half of a reader's two checks isn't enough either."""

    def wrong(patched):
        with monkeypatch.context() as patch:
            for name, value in patched.items():
                patch.setattr(pyramid, name, value)
            off = set()
            for seed in range(8):
                image, _, _ = random_pyramid(tmp_path / "a.tif", seed, turned=False)
                with Slide(tmp_path / "a.tif") as slide:
                    if largest_error(slide, image, np.random.default_rng(seed)) >= LIMIT:
                        off.add(seed)
            return off

    sizes_alone = wrong({"_alike": lambda *_: True})
    assert sizes_alone and sizes_alone < wrong({"_alike": lambda *_: True, "same_shape": lambda *_: True})


def test_right_levels_are_used(tmp_path):
    rng = np.random.default_rng(0)
    image = textured(1201, 1603, rng)
    levels = [image, *(area_means(image, factor).round().astype(np.uint8) for factor in (2, 4, 8))]
    with Slide(write_pyramid(tmp_path / "a.tif", levels, compression="jpeg")) as slide:
        assert [slide.plan(mpp)[0] for mpp in (0.5, 1.0, 2.0, 4.0)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("finest", "other", "same"),
    [
        ((46000, 32914), (11500, 8228), True),  # Aperio cuts
        ((46001, 32915), (11501, 8229), True),  # others round up
        ((6400, 2048), (1792, 512), False),  # padded to whole tiles of 256 px
        ((6400, 2048), (400, 384), False),
        ((1000, 700), (400, 280), True),  # by 2.5
        ((1000, 700), (333, 233), True),
        ((1000, 700), (336, 233), False),
        ((900, 600), (3, 1), True),
    ],
)
def test_one_factor_for_width_and_height(finest, other, same):
    assert same_shape(finest, other) is same


def test_a_square_slide_padded_alike_both_ways_is_seen_by_its_pixels(tmp_path):
    image = textured(1100, 1100, np.random.default_rng(1))
    level = padded(area_means(image, 4).round().astype(np.uint8), 128)
    assert same_shape((1100, 1100), level.shape[1::-1])
    with Slide(write_pyramid(tmp_path / "a.tif", [image, level])) as slide:
        assert slide.level_downsamples[1] == pytest.approx(1100 / 384)  # 4 in truth
        assert slide.plan(2.0) == (0, 4.0)


def test_empty_glass_is_no_sign_of_a_lie(tmp_path):
    """Most of a slide is glass, which looks alike everywhere; noise and sharpening are no differences."""
    rng = np.random.default_rng(2)
    image = np.full((1200, 1600, 3), 243, np.uint8)
    image[700:1000, 200:600] = textured(300, 400, rng)
    level = area_means(image, 4)
    level = np.clip((level - level.mean()) * 1.2 + level.mean() + rng.normal(0, 6, level.shape), 0, 255)
    with Slide(write_pyramid(tmp_path / "a.tif", [image, level.round().astype(np.uint8)])) as slide:
        assert slide.plan(2.0) == (1, 1.0)


def test_a_larger_page_that_is_no_part_of_the_pyramid_is_refused(tmp_path):
    rng = np.random.default_rng(3)
    small, large = textured(256, 256, rng), textured(512, 768, rng)
    for name, reduced in (("reduced", True), ("whole", False)):
        write_pyramid(tmp_path / f"{name}.tif", [small, large], reduced=reduced)
        with pytest.raises(UnusablePagesError, match=rf"{name}\.tif has 256 × 256 px on its first page, and a page of"):
            Slide(tmp_path / f"{name}.tif")


def test_channels_on_pages_of_their_own_are_refused(tmp_path):
    channels = np.moveaxis(textured(128, 192, np.random.default_rng(4)), 2, 0).copy()
    options = {"metadata": {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}}
    tifffile.imwrite(tmp_path / "a.ome.tif", channels, tile=(64, 64), photometric="minisblack", **options)
    with pytest.raises(UnusablePagesError, match=r"a\.ome\.tif has each channel on a page of its own"):
        Slide(tmp_path / "a.ome.tif")


def test_16_bits_that_are_not_all_used_are_refused(tmp_path):
    image = textured(128, 192, np.random.default_rng(5)).astype(np.uint16)
    for name, bits in (("whole", 16), ("camera", 12)):
        write_pyramid(tmp_path / f"{name}.tif", [image * (2**bits // 256)], side=64, compression="zlib")
    with Slide(tmp_path / "whole.tif") as slide:
        assert np.abs(slide.thumbnail(0.5).pixels.astype(int) - image).max() <= 1
    with Slide(tmp_path / "camera.tif") as slide, pytest.raises(UnusablePagesError, match="16 bits a channel and"):
        slide.thumbnail(0.5)


@pytest.mark.parametrize(
    ("unit", "size", "mpp"), [("µm", 0.265, 0.265), ("nm", 265.0, 0.265), ("mm", 0.0005, 0.5), (None, 0.4, 0.4)]
)
def test_a_resolution_that_only_the_ome_xml_says(tmp_path, unit, size, mpp):
    image = textured(300, 420, np.random.default_rng(6))
    units = {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit} if unit else {}
    about = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": size, **units}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, tile=(64, 64), photometric="rgb", metadata=about)
    with Slide(tmp_path / "a.ome.tif") as slide:
        assert (slide.mpp, slide.mpp_source) == (pytest.approx(mpp), "ome")
        assert slide.footprint_px(2 * mpp) == 2


@pytest.mark.parametrize("mpp", [0.265, 0.2275, 0.4545, 0.44])
def test_an_odd_resolution_is_not_rounded_to_a_magnification(tmp_path, mpp):
    image = textured(600, 840, np.random.default_rng(7))
    with Slide(write_pyramid(tmp_path / "a.tif", [image], mpp=mpp)) as slide:
        assert slide.mpp == pytest.approx(mpp, rel=1e-6)
        assert slide.footprint_px(0.5) * slide.mpp == pytest.approx(0.5)
        assert slide.footprint_px(2 * mpp) == pytest.approx(2)
