from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnagan.io.images import grid, picture_name, save_png, shrink, synthetic_texts, to_uint8


def test_to_uint8_rounds_and_clips():
    values = np.array([-1.7, -1.0, -0.999, 0.0039, 0.9, 1.0, 1.2])
    x = np.broadcast_to(values[:, None, None, None], (7, 3, 2, 5))
    assert to_uint8(x).shape == (7, 2, 5, 3) and to_uint8(x).dtype == np.uint8
    # 127.5 (v + 1): −0.999 → 0.13, 0.0039 → 127.997 (truncating would give 127), 0.9 → 242.25
    assert to_uint8(x)[:, 0, 0, 0].tolist() == [0, 0, 0, 128, 242, 255, 255]


def test_to_uint8_undoes_the_trainers_scaling():
    tile = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(to_uint8(tile.astype(dtype) / dtype(127.5) - 1), tile.transpose(0, 2, 3, 1))


def test_to_uint8_keeps_channels_and_axes():
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 6))
    for n, c, row, column in ((0, 0, 1, 5), (1, 2, 3, 0)):
        assert to_uint8(x)[n, row, column, c] == round((x[n, c, row, column] + 1) * 127.5)


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
