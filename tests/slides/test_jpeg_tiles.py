"""Natively decoded pixels are OpenSlide's own, whatever the file says or keeps quiet about."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile

from rnagan.slides.slide import Slide

REAL = Path(__file__).parents[3] / "shared" / "data" / "slides"


def largest_difference(path, mpp, size_px=150):
    """Over positions that cut native tiles everywhere, beyond the slide's edge too."""
    with Slide(path) as ours, Slide(path, native=False) as openslide:
        assert ours.decoder(mpp).startswith("native") and openslide.decoder(mpp) == "openslide"
        places = [(x, y) for x in range(-100, ours.width_px, 170) for y in range(-60, ours.height_px, 130)]
        both = [[slide.read(x, y, size_px, mpp).astype(int) for slide in (ours, openslide)] for x, y in places]
    assert len(both) > 9 and any(tile.std() > 5 for tile, _ in both)
    return max(np.abs(tile - expected).max() for tile, expected in both)


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
@pytest.mark.parametrize("side", [256, 240])
@pytest.mark.parametrize("mpp", [0.5, 1.0, 0.7])
def test_equal_to_openslide(make_slide, photometric, side, mpp):
    options = {"subsampling": (2, 2)} if photometric == "ycbcr" else {}
    path = make_slide("a.svs", make_slide.smooth_image(600, 900), photometric=photometric, side=side, **options)
    assert largest_difference(path, mpp) <= 1


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.skipif(not REAL.is_dir(), reason="the real slides are not here")
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "liver_tile01_pyramid.tif"])
@pytest.mark.parametrize("mpp", [0.5, 1.0])
def test_equal_to_openslide_on_real_slides(name, mpp):
    assert largest_difference(REAL / name, mpp, size_px=256) == 0


def test_rgb_that_only_the_tiff_knows_of(make_slide):
    """As in the real Aperio slide; a plain decoder takes the three components for YCbCr."""
    image = make_slide.smooth_image(600, 900)
    path = make_slide.unmarked_rgb("a.svs", image)
    with Slide(path) as slide:
        assert slide.decoder(0.5) == "native, equal to openslide"
        tile = slide.read(300, 100, 256, 0.5).astype(int)
        level = slide._native.get(900, 600)
        plain = simplejpeg.decode_jpeg(path.read_bytes()[level._offsets[0] :][: level._sizes[0]]).astype(int)
    assert np.abs(tile - image[100:356, 300:556]).max() < 12
    assert np.abs(plain - image[:256, :256]).max() > 50  # the mistake


def test_pixels_that_differ_are_left_to_openslide(make_slide):
    """Here the tiles' own marker says YCbCr, and the TIFF says RGB: OpenSlide believes the TIFF."""
    image = make_slide.smooth_image(600, 900)
    with Slide(make_slide.unmarked_rgb("a.svs", image, keep_jfif=True)) as slide:
        assert slide.decoder(0.5) == "openslide"
        assert np.abs(slide.read(300, 100, 256, 0.5).astype(int) - image[100:356, 300:556]).max() < 12


def test_a_slide_with_missing_tiles_is_left_to_openslide(make_slide):
    """It blanks them, and what coarser levels show in their place."""
    path = make_slide("a.svs")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        sizes = list(tiff.pages[0].tags["TileByteCounts"].value)
        sizes[3] = 0
        tiff.pages[0].tags["TileByteCounts"].overwrite(sizes)
    with Slide(path) as slide:
        assert slide.decoder(0.5) == slide.decoder(1.0) == "openslide"
        assert (slide.read(770, 0, 100, 0.5) == 255).all()  # never scanned


def test_a_tile_whose_header_lies_is_not_believed(make_slide):
    path = make_slide("a.svs", make_slide.smooth_image(600, 900))
    with Slide(path) as slide:
        level = slide._native.get(900, 600)
        large = simplejpeg.encode_jpeg(np.zeros((2000, 2000, 3), np.uint8), 50, "RGB", "444")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rnagan.slides.jpeg_tiles.os.pread", lambda *_: large)
            with pytest.raises(ValueError):
                level.region(0, 0, 10, 10)


def test_each_native_tile_is_decoded_once(make_slide, monkeypatch):
    path, calls = make_slide("a.svs", side=240), []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: calls.append(1) or decode(*a, **k))
    with Slide(path) as slide:
        for y in range(0, 512, 128):
            for x in range(0, 768, 128):
                slide.read(x, y, 128, 0.5)
        slide.thumbnail(4.0)  # may read the second level
    assert len(calls) <= 12 + 6  # 4 × 3 tiles of level 0, 2 × 2 of level 1 that comparison and thumbnail share


def test_a_tile_that_cannot_be_decoded_is_not_stored_as_it_is(make_slide):
    """Then its pixels are OpenSlide's, if it reads them, and the slide's own JPEG would not show them."""
    image = make_slide.smooth_image(600, 900)
    with Slide(make_slide("a.svs", image, photometric="ycbcr", subsampling=(2, 2))) as slide:
        assert slide.stored_jpeg(256, 0, 256, 0.5) and slide.stored_jpeg(128, 0, 256, 0.5) is None
        level = slide._native.get(900, 600)
        level._tile.cache_clear()
        level._sizes = tuple(size // 3 for size in level._sizes)
        assert slide.stored_jpeg(256, 0, 256, 0.5) is None
