"""One way from images of any kind to a tile's pixels, through each of the doors that images come in by."""

import io

import imagecodecs
import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from rnagan.data.image_codec import decode_image, decode_into, image_size, rgb_pixels
from rnagan.slides.premade_tiles import load_tile
from rnagan.slides.slide import Slide

SIDE = 32


def picture(height=SIDE, width=SIDE):
    """RGB, smooth, without symmetry, and bright at its brightest."""
    y, x = np.mgrid[:height, :width]
    return np.stack([90 + 150 * x / width, 60 + 120 * y / height, 200 - 60 * (x + y) / (height + width)], 2).astype(
        np.uint8
    )


def on_white(image, alpha):
    """The formula of a painter who puts a see-through picture on white paper."""
    share = alpha[..., None] / 255
    return image * share + 255 * (1 - share)


IMAGE = picture()
GREY = IMAGE[..., 0]
ALPHA = np.where(np.mgrid[:SIDE, :SIDE][1] < 20, 255, np.mgrid[:SIDE, :SIDE][0] * 8).astype(np.uint8)
GREY3 = np.stack([GREY] * 3, axis=2)
PALETTE = Image.fromarray(IMAGE).quantize(12, dither=Image.Dither.NONE)


def pillow(kind, image, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def tiff(image, **options):
    data = io.BytesIO()
    tifffile.imwrite(data, image, metadata=None, **options)
    return data.getvalue()


def png(image):
    return imagecodecs.png_encode(np.ascontiguousarray(image))


RGBA = np.dstack([IMAGE, ALPHA])
ASSOCIATED = np.dstack([(IMAGE * (ALPHA[..., None] / 255)).round().astype(np.uint8), ALPHA])
SEEN = {  # what is stored, and what a viewer shows of it
    "rgb.png": (png(IMAGE), IMAGE),
    "grey.png": (png(GREY), GREY3),
    "rgba.png": (png(RGBA), on_white(IMAGE, ALPHA)),
    "grey and alpha.png": (png(np.dstack([GREY, ALPHA])), on_white(GREY3, ALPHA)),
    "all transparent.png": (png(np.dstack([IMAGE, 0 * ALPHA])), np.full_like(IMAGE, 255)),
    "palette.png": (pillow("PNG", PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "palette with a hole.png": (
        pillow("PNG", PALETTE, transparency=3),
        on_white(np.asarray(PALETTE.convert("RGB")), np.where(np.asarray(PALETTE) == 3, 0, 255)),
    ),
    "one colour is a hole.png": (
        pillow("PNG", Image.fromarray(IMAGE), transparency=tuple(IMAGE[5, 7].tolist())),
        on_white(IMAGE, np.where((IMAGE[5, 7] == IMAGE).all(axis=2), 0, 255)),
    ),
    "black and white.png": (
        pillow("PNG", Image.fromarray(GREY > 150)),
        np.repeat((GREY > 150)[..., None] * 255, 3, axis=2),
    ),
    "rgb.jpg": (simplejpeg.encode_jpeg(IMAGE, 100, "RGB", "444"), IMAGE),
    "grey.jpg": (pillow("JPEG", Image.fromarray(GREY), quality=100), GREY3),
    "cmyk.jpg": (pillow("JPEG", Image.fromarray(IMAGE).convert("CMYK"), quality=100), IMAGE),
    "grey 16.png": (png(GREY.astype(np.uint16) * 257), GREY3),
    "rgb 16.png": (png(IMAGE.astype(np.uint16) * 257), IMAGE),
    "rgba 16.png": (png(RGBA.astype(np.uint16) * 257), on_white(IMAGE, ALPHA)),
    "grey 16.tif": (tiff(GREY.astype(np.uint16) * 257), GREY3),
    "inverted 16.tif": (tiff((255 - GREY).astype(np.uint16) * 257, photometric="miniswhite"), GREY3),
    "inverted.tif": (tiff(255 - GREY, photometric="miniswhite"), GREY3),
    "rgb 16.tif": (tiff(IMAGE.astype(np.uint16) * 257, photometric="rgb"), IMAGE),
    "rgba.tif": (tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"]), on_white(IMAGE, ALPHA)),
    "associated.tif": (tiff(ASSOCIATED, photometric="rgb", extrasamples=["assocalpha"]), on_white(IMAGE, ALPHA)),
    "fourth channel.tif": (tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]), IMAGE),
    "cmyk.tif": (pillow("TIFF", Image.fromarray(IMAGE).convert("CMYK")), IMAGE),
}
UNKNOWN = {
    "float.tif": (tiff((GREY / 255).astype(np.float32)), "has pixels of 32-bit floats, whose white isn't known"),
    "signed.tif": (tiff(GREY.astype(np.int16)), "has pixels of signed or 32-bit integers"),
    "32 bits.tif": (tiff(GREY.astype(np.uint32) * 1000), "has pixels of signed or 32-bit integers"),
    "12 of 16 bits.png": (png(GREY.astype(np.uint16) * 16), "has 16 bits a channel and uses 14 or fewer"),
    "14 of 16 bits.tif": (tiff(IMAGE.astype(np.uint16) * 64, photometric="rgb"), "has 16 bits a channel and uses"),
    "10 of 16 bits.png": (png(RGBA[..., :3].astype(np.uint16) * 4), "has 16 bits a channel and uses"),
}


def pages(*images, **of_others):
    """A TIFF with a page for each image; `of_others` describe all but the first."""
    data = io.BytesIO()
    with tifffile.TiffWriter(data) as file:
        for number, image in enumerate(images):
            file.write(image, photometric="rgb", metadata=None, **(of_others if number else {}))
    return data.getvalue()


def broken_second_page():
    data = bytearray(pages(IMAGE, IMAGE))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return bytes(data[: file.pages[1].offset + 30])


def frames(kind, **options):
    others = [Image.fromarray(IMAGE[::-1]), Image.fromarray(IMAGE[:, ::-1])]
    return pillow(kind, Image.fromarray(IMAGE), save_all=True, append_images=others, **options)


SEVERAL = {
    "planes.tif": (pages(IMAGE, IMAGE[::-1], IMAGE), "holds 3 pictures"),
    "smaller page.tif": (pages(IMAGE, IMAGE[::2, ::2].copy()), "holds 2 pictures"),
    "cut behind the first.tif": (broken_second_page(), "has a broken page after its first|holds 2 pictures"),
    "animated.png": (frames("PNG"), "holds 3 pictures"),
    "animated.webp": (frames("WEBP", lossless=True), "holds 3 pictures"),
}
ONE = {
    "pyramid.tif": pages(IMAGE, IMAGE[::2, ::2].copy(), IMAGE[::4, ::4].copy(), subfiletype=1),
    "with a preview.jpg": frames("MPO", quality=100, subsampling=0),
}


def check_refused(path, data, sentence):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path.name} {sentence}"):
        load_tile(path, SIDE)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_file_of_several_pictures_is_no_tile(tmp_path, name):
    data, sentence = SEVERAL[name]
    check_refused(tmp_path / name, data, f"({sentence})")
    if name.endswith("png"):
        with pytest.raises(ValueError, match=sentence):
            decode_image(data)


@pytest.mark.parametrize("name", ONE)
def test_previews_and_reduced_copies_are_no_further_pictures(tmp_path, name):
    (tmp_path / name).write_bytes(ONE[name])
    assert close(load_tile(tmp_path / name, SIDE), IMAGE, 5)


def close(seen, expected, by=2.0):
    return seen.shape == expected.shape and np.abs(seen.astype(float) - expected).max() <= by


@pytest.mark.parametrize("name", SEEN)
def test_a_ready_made_tile_looks_as_in_a_viewer(tmp_path, name):
    data, expected = SEEN[name]
    (tmp_path / name).write_bytes(data)
    tile = load_tile(tmp_path / name, SIDE)
    assert tile.dtype == np.uint8 and close(tile, expected, 5 if name.endswith("jpg") else 2)


@pytest.mark.parametrize("name", UNKNOWN)
def test_values_of_unknown_range_are_refused(tmp_path, name):
    check_refused(tmp_path / name, *UNKNOWN[name])


@pytest.mark.parametrize("name", [name for name in SEEN if name.endswith(("png", "jpg"))])
def test_a_tile_of_an_adopted_set_is_the_same_or_refused(name):
    """Its reader is made for speed, so that what needs Pillow's slow ways is refused when the set is adopted."""
    data, expected = SEEN[name]
    if "16" in name or "cmyk" in name:
        with pytest.raises(ValueError, match=r"only (8 bits a channel|RGB and grey) are read"):
            image_size(data)
        return
    out = np.empty((SIDE, SIDE, 3), np.uint8)
    decode_into(data, out)
    assert image_size(data) == (SIDE, SIDE)
    assert np.array_equal(out, decode_image(data)) and close(out, expected, 5 if name.endswith("jpg") else 2)


# What a viewer does with the stored rows and columns, by the EXIF standard.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_an_orientation_tag_is_obeyed(tmp_path, orientation):
    image = picture(40, 56)
    expected = TURNS[orientation](image)
    exif = Image.Exif()
    exif[274] = orientation
    stored = {
        "a.png": pillow("PNG", Image.fromarray(image), exif=exif),
        "a.jpg": pillow("JPEG", Image.fromarray(image), exif=exif, quality=100, subsampling=0),
        "a.tif": tiff(image, photometric="rgb", extratags=[(274, "H", 1, orientation, False)]),
        "b.tif": tiff(image, photometric="rgb", compression="zlib", extratags=[(274, "H", 1, orientation, False)]),
    }
    for name, data in stored.items():
        (tmp_path / name).write_bytes(data)
        with Image.open(tmp_path / name) as opened:
            assert close(rgb_pixels(opened), expected, 5), name
        square = load_tile(tmp_path / name, 40)
        top, left = (expected.shape[0] - 40) // 2, (expected.shape[1] - 40) // 2
        assert close(square, expected[top : top + 40, left : left + 40], 5), name
        if not name.endswith("tif"):
            assert close(decode_image(data), expected, 5) and image_size(data) == expected.shape[1::-1]
            with pytest.raises(ValueError, match="it has"):
                decode_into(data, np.empty((24, 24, 3), np.uint8))


@pytest.mark.parametrize("name", ["rgba.tif", "associated.tif", "rgb 16.tif"])
def test_a_slide_looks_as_in_a_viewer(tmp_path, name):
    """The same kinds of pixels in tiles of 16 px, read through OpenSlide."""
    data, expected = SEEN[name]
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        options = {
            "photometric": "rgb",
            "extrasamples": page.extrasamples,
            "tile": (16, 16),
            "compression": "zlib",
            "metadata": None,
        }
        tifffile.imwrite(tmp_path / name, page.asarray(), resolution=(20000, 20000), resolutionunit=3, **options)
    with Slide(tmp_path / name) as slide:
        assert close(slide.read(0, 0, SIDE, 0.5), expected, 3)
