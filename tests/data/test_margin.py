"""Tiles stored with a margin: evaluation reads the middle, training a shift that the image's number decides."""

import json

import numpy as np
import pytest

from rnagan.config.gan import GANConfig
from rnagan.data.augment import draw_corners
from rnagan.data.image_codec import encode_jpeg
from rnagan.data.index import open_dataset
from rnagan.data.loader import Loading, tile_batches
from rnagan.data.reader import TileReader
from rnagan.data.sampler import TileOrder
from rnagan.data.set_digest import write_digest
from rnagan.data.shard_schema import kind_of
from rnagan.data.verify import check_folder
from rnagan.data.writer import ShardWriter
from rnagan.evaluation.real_tiles import tiles_of_slides
from rnagan.training.run_checks import check_run
from rnagan.training.tile_inputs import make_loading

SIDE, MARGIN, TILES = 32, 8, 6
STORED = SIDE + 2 * MARGIN


def picture(n: int) -> np.ndarray:
    """Red says the row, green the column and blue the tile: pixels tell where they were cut."""
    rows, columns = np.mgrid[:STORED, :STORED]
    return np.stack([4 * rows, 4 * columns, np.full_like(rows, 40 * n)], axis=2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    options = {"tile_px": SIDE, "mpp": 0.5, "margin_px": MARGIN}
    with ShardWriter(tmp_path / "s", "a") as shard:
        for n in range(TILES):
            about = {"slide": "a", "x": None, "y": None, "tile_px": SIDE, "mpp": 0.5, "margin_px": MARGIN}
            shard.add(f"a_n{n}", encode_jpeg(picture(n), 98), about)
        shard.commit("done", {}, {}, options, {})
    write_digest(tmp_path / "s")
    return tmp_path / "s"


def corner_of(tile: np.ndarray) -> tuple[int, int]:
    """Row and column, in the stored image, of a tile's corner, by its pixels (H, W, 3)."""
    return tuple(int(np.rint((tile[..., axis].mean() / 4) - (SIDE - 1) / 2)) for axis in (0, 1))


def test_a_set_says_its_margin_and_is_whole(folder):
    shards = open_dataset(folder)
    assert (shards.tile_px, shards.margin_px, shards.mpp_at(16)) == (SIDE, MARGIN, 1.0)
    assert json.loads((folder / "dataset.json").read_text())["margin_px"] == MARGIN
    assert check_folder(folder, decode=True).findings == []
    check_run(GANConfig(resolution=32, batch_size=4), shards, 1)
    kind = kind_of({"tile_px": SIDE, "mpp": 0.5})
    assert kind.margin_px == 0 and "margin_px" not in kind.facts
    with pytest.raises(ValueError, match="has margin_px -1 in its options"):
        kind_of({"tile_px": SIDE, "mpp": 0.5, "margin_px": -1})


def test_what_is_stored_smaller_is_found(folder):
    with ShardWriter(folder, "b") as shard:
        about = {"slide": "b", "x": None, "y": None, "tile_px": SIDE, "mpp": 0.5, "margin_px": MARGIN}
        shard.add("b_n0", encode_jpeg(picture(0)[:SIDE, :SIDE], 90), about)
        shard.add("b_n1", encode_jpeg(picture(0), 90), about | {"margin_px": 4})
        shard.commit("done", {}, {}, {"tile_px": SIDE, "mpp": 0.5, "margin_px": MARGIN}, {})
    write_digest(folder)
    (problem,) = [finding.problem for finding in check_folder(folder, decode=True).findings]
    assert "which has 32 × 32 px, not 48" in problem
    (problem,) = [finding.problem for finding in check_folder(folder).findings]
    assert "with margin_px 4, not 8" in problem


def test_evaluation_takes_the_middle(folder):
    shards = open_dataset(folder)
    rows = shards.slides.assign(tiles=TILES)
    (tiles,) = tiles_of_slides(shards, rows, SIDE)
    assert [corner_of(tile) for tile in tiles] == [(MARGIN, MARGIN)] * TILES


def read(folder, start, batch, loading, rank=0, processes=1, count=4):
    shards = open_dataset(folder)
    reader, order = TileReader(shards, ["a"]), TileOrder([TILES], 0)
    batches = tile_batches(reader, order, start, batch, rank, processes, loading)
    return [next(batches) for _ in range(count)]


def test_training_shifts_by_the_images_number(folder):
    """The same on any number of processes and in any batches, wherever a run begins; over the whole margin."""
    shifting = Loading(threads=1, shift_seed=3)
    images = [tile.numpy().transpose(1, 2, 0) for one in read(folder, 0, 8, shifting, count=8) for tile in one.images]
    corners = [corner_of(tile) for tile in images]
    assert corners == [tuple(row) for row in draw_corners(3, 0, 64, MARGIN).tolist()]
    assert {axis for corner in corners for axis in corner} <= set(range(2 * MARGIN + 1)) and len(set(corners)) > 40
    later = [tile for one in read(folder, 13, 4, shifting) for tile in one.images]
    halves = [read(folder, 0, 8, shifting, rank, 2, count=1)[0].images for rank in (0, 1)]
    for n, tile in enumerate(later):
        np.testing.assert_array_equal(tile.numpy().transpose(1, 2, 0), images[13 + n])
    for n in range(8):
        np.testing.assert_array_equal(halves[n // 4][n % 4].numpy().transpose(1, 2, 0), images[n])
    still = read(folder, 0, 8, Loading(threads=1), count=1)[0].images
    assert {corner_of(tile.numpy().transpose(1, 2, 0)) for tile in still} == {(MARGIN, MARGIN)}
    other = read(folder, 0, 8, Loading(threads=1, shift_seed=4), count=1)[0].images
    assert [corner_of(tile.numpy().transpose(1, 2, 0)) for tile in other] != corners[:8]


def test_the_settings_of_a_run_decide(folder):
    assert make_loading(GANConfig(seed=5)).shift_seed == 5
    assert make_loading(GANConfig(seed=5, shifts=False)).shift_seed is None


def test_corners_are_uniform():
    drawn = draw_corners(0, 0, 17_000, MARGIN)
    counts = np.stack([np.bincount(drawn[:, axis], minlength=17) for axis in (0, 1)])
    assert drawn.min() == 0 and drawn.max() == 16 and np.abs(counts / 1000 - 1).max() < 0.15
    np.testing.assert_array_equal(draw_corners(0, 100, 50, MARGIN), drawn[100:150])
