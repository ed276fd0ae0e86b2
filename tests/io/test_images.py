import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from rnagan.data.image_codec import decode_image, decode_into, image_size
from rnagan.io.images import grid, picture_name, save_png, shrink, synthetic_texts
from rnagan.slides.premade_tiles import load_tile


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrinking_averages_squares_and_rounds_to_even(factor: int) -> None:
    image = np.random.default_rng(factor).integers(0, 256, (13, 11, 3)).astype(np.uint8)
    image[:2, :2] = [[[0, 1, 254], [1, 1, 255]], [[1, 2, 255], [0, 2, 254]]]  # means of 2 × 2: 0.5, 1.5, 254.5
    small = shrink(image, factor)
    assert small.shape == (13 // factor, 11 // factor, 3) and small.dtype == np.uint8
    for i, j in np.ndindex(small.shape[:2]):
        square = image[factor * i : factor * (i + 1), factor * j : factor * (j + 1)]
        assert small[i, j].tolist() == square.mean(axis=(0, 1)).round().tolist()
    if factor == 2:
        assert small[0, 0].tolist() == [0, 2, 254]


def test_grid_geometry():
    tiles = np.random.default_rng(0).integers(0, 250, (2, 3, 4, 6, 3)).astype(np.uint8)  # 2 rows, 3 columns, 4 × 6 px
    picture = grid(tiles, gap=2)
    assert picture.shape == (2 * 4 + 2, 3 * 6 + 2 * 2, 3) and picture.dtype == np.uint8
    expected = np.full_like(picture, 255)
    for i, top in enumerate((0, 6)):
        for j, left in enumerate((0, 8, 16)):
            expected[top : top + 4, left : left + 6] = tiles[i, j]
    np.testing.assert_array_equal(picture, expected)
    np.testing.assert_array_equal(grid(tiles[:1, :1]), tiles[0, 0])


@pytest.mark.parametrize(("mpp", "text"), [(None, "unknown"), (0.5, "0.5"), (0.25030000000000002, "0.2503")])
def test_a_png_says_that_it_is_synthetic(tmp_path, mpp, text):
    tile = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    save_png(tmp_path / "new" / "tile.png", tile, synthetic_texts("abc123", "GTEX-1-α", 7, mpp))
    with Image.open(tmp_path / "new" / "tile.png") as image:
        np.testing.assert_array_equal(np.asarray(image), tile)
        assert (image.format, image.size, image.mode) == ("PNG", (7, 5), "RGB")
        texts = dict(image.text)
    assert texts["Synthetic"] == "true" and texts["Software"] == "rnagan"
    assert texts["Description"].startswith("Synthetic tissue") and "not a photograph" in texts["Description"]
    assert [texts[f"rnagan:{key}"] for key in ("model", "profile", "seed", "mpp")] == [
        "abc123",
        "GTEX-1-α",
        "7",
        text,
    ]


def test_png_without_texts(tmp_path):
    save_png(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8))
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {}


@pytest.mark.attack(kind=8, ends="unharmed")
def test_every_tissue_names_a_picture_of_its_own(tmp_path: Path) -> None:
    tissues = [
        "Lung",
        "lung",
        "a/b",
        "a_b",
        "a.b",
        "x" * 300,
        "x" * 299,
        "é" * 80,
        "",
        "..",
        "\x1b[31m",
        "measures",
        "日本",
    ]
    taken = {"measures"}
    names = [picture_name(tissue, taken) for tissue in tissues]
    assert names[0] == "Lung" and names[2] == "a_b" and names[-1] == "日本"
    assert len({name.lower() for name in names} - {"measures"}) == len(tissues)
    for name in names:
        (tmp_path / f"strip_{name}.png").touch()
    assert len(list(tmp_path.iterdir())) == len(tissues)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"


def header_of_png(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(4) + end
    )


def header_of_jpeg(width, height):
    data = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8), 90)
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def header_of_tiff(width, height):
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "TIFF")
    data = file.getvalue()
    for tag, value in ((256, width), (257, height)):
        for kind in (3, 4):
            old = struct.pack("<HHI", tag, kind, 1)
            at = data.find(old)
            if at >= 0:
                data = data[:at] + struct.pack("<HHII", tag, 4, 1, value) + data[at + 12 :]
    return data


def saved_as(kind):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    return file.getvalue()


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    "data", [EPS, saved_as("GIF"), saved_as("PPM"), saved_as("TGA"), saved_as("ICO"), b"", b"no image"]
)
@pytest.mark.parametrize("name", ["a.png", "a.eps", "a.jpg"])
def test_only_the_formats_that_are_meant_are_opened(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is no readable image; JPEG, PNG, TIFF, BMP, WEBP and JPEG2000 are read"):
        load_tile(path, 16)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "JPEG2000"])
def test_the_formats_that_are_meant_are_opened_under_any_name(tmp_path, kind):
    (tmp_path / "a.xyz").write_bytes(saved_as(kind))
    assert load_tile(tmp_path / "a.xyz", 16).shape == (16, 16, 3)


def test_a_dark_jpeg2000_is_read_whatever_its_number_among_open_files(tmp_path):
    (tmp_path / "a.jp2").write_bytes(saved_as("JPEG2000"))
    with contextlib.ExitStack() as opened:
        for _ in range(24):  # one of these numbers has a 16 in it
            opened.enter_context(open(tmp_path / "a.jp2", "rb"))
            assert load_tile(tmp_path / "a.jp2", 16).shape == (16, 16, 3)


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize("make", [header_of_png, header_of_jpeg, header_of_tiff])
@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (11_700, 11_700), (65_000, 3_000)])
def test_an_image_that_claims_to_be_huge_is_refused_by_its_header(tmp_path, make, width, height):
    data = make(width, height)
    (tmp_path / "a.png").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            ValueError, match=r"a\.png has (\d.* × .* px, and an image may have|more than the) 134,217,728"
        ):
            load_tile(tmp_path / "a.png", 16)
        if make is not header_of_tiff:
            for read in (decode_image, image_size):
                with pytest.raises(
                    ValueError, match=f"^has {width:,} × {height:,} px, and an image may have 134,217,728$"
                ):
                    read(data)
            with pytest.raises(ValueError, match="has"):
                decode_into(data, np.empty((16, 16, 3), np.uint8))
