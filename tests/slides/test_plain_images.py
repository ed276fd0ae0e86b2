"""Images that OpenSlide refuses: strips, whole pictures, mapped files; the pixels are tifffile's and Pillow's own."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from rnagan.data.build_jobs import SourceError
from rnagan.slides import plain_images
from rnagan.slides.plain_images import PartedTiff, Picture, open_plain
from rnagan.slides.slide import Slide

HEIGHT, WIDTH = 700, 1000
KINDS = {
    "strips": (dict(compression="lzw", rowsperstrip=37), PartedTiff),
    "jpeg": (dict(compression="jpeg", rowsperstrip=64), PartedTiff),
    "mapped": (dict(), Picture),
    "alpha": (dict(compression="deflate", rowsperstrip=50, extrasamples=["UNASSALPHA"]), PartedTiff),
    "tiles": (dict(compression="zstd", tile=(64, 48)), PartedTiff),
}


@pytest.fixture
def image():
    small = np.random.default_rng(0).integers(0, 255, (HEIGHT // 10, WIDTH // 10, 3), np.uint8)
    return small.repeat(10, 0).repeat(10, 1)


def write(path, image, **options):
    if "extrasamples" in options:
        image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    tifffile.imwrite(path, image, photometric="rgb", **options)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_the_pixels_of_a_tiff(image, tmp_path, name):
    options, kind = KINDS[name]
    path = write(tmp_path / "a.tif", image, **options)
    plain, truth = open_plain(path), tifffile.imread(path)[..., :3]
    assert type(plain) is kind and plain.dimensions == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(np.asarray(plain.read_region((0, 0), 0, (WIDTH, HEIGHT))), truth)
    np.testing.assert_array_equal(np.asarray(plain.read_region((123, 77), 0, (300, 200))), truth[77:277, 123:423])
    beyond = np.asarray(plain.read_region((-20, 650), 0, (200, 100)))
    assert (beyond[:, :20] == 255).all() and (beyond[50:] == 255).all()
    np.testing.assert_array_equal(beyond[:50, 20:], truth[650:, :180])
    assert (np.asarray(plain.read_region((2000, 0), 0, (9, 9))) == 255).all()
    plain.close()


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_a_slide_of_a_picture(image, tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(image).save(path)
    truth = np.asarray(Image.open(path))
    with Slide(path, 0.5, plain=True) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "assumed")
        np.testing.assert_array_equal(slide.read(10, 20, 64, 0.5), truth[20:84, 10:74])
        assert slide.thumbnail(4.0).pixels.shape == (88, 125, 3)
    with pytest.raises(SourceError, match="is no slide that OpenSlide can read"):
        Slide(path, 0.5)


def test_the_resolution_of_a_tiffs_tags(image, tmp_path):
    path = write(tmp_path / "a.tif", image, rowsperstrip=37, compression="lzw", resolution=(20000, 20000),
                 resolutionunit="CENTIMETER")  # fmt: skip
    with Slide(path, plain=True) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "tiff")


@pytest.mark.attack(kind=2)
def test_a_damaged_strip_is_named(image, tmp_path):
    path = write(tmp_path / "a.tif", image, compression="deflate", rowsperstrip=100)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[3]
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"damaged, and not to be inflated")
    with Slide(path, 0.5, plain=True) as slide:
        assert slide.read(0, 0, 64, 0.5).shape == (64, 64, 3)
        with pytest.raises(SourceError, match="a.tif is damaged at x 0, y 320 .part 3 of the TIFF can't be decoded"):
            slide.read(0, 320, 64, 0.5)


@pytest.mark.attack(kind=2)
def test_what_cannot_be_read(image, tmp_path, monkeypatch):
    turned = write(tmp_path / "turned.tif", image, rowsperstrip=37, compression="lzw", extratags=[(274, 3, 1, 6, True)])
    (tmp_path / "cut.tif").write_bytes(b"II*\0" + b"\1" * 40)
    (tmp_path / "text.png").write_text("no picture")
    monkeypatch.setattr(plain_images, "MAX_PIXELS", 1000)
    whole = write(tmp_path / "whole.tif", image, compression="lzw", rowsperstrip=HEIGHT)
    wrong = {turned: "is to be turned", whole: "is stored in one piece", tmp_path / "cut.tif": "is no readable",
             tmp_path / "text.png": "is no readable image"}  # fmt: skip
    for path, message in wrong.items():
        with pytest.raises(SourceError, match=f"{path.name} {message}"):
            Slide(path, 0.5, plain=True)
