"""Real tiles of slides, at the size of painted ones."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan import pictures
from rnagan.data.index import ShardSet
from rnagan.data.reader import TileReader


def tiles_of_slides(
    shards: ShardSet, rows: pd.DataFrame, resolution: int, replace_damaged: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """The first `tiles` tiles of each row's `slide` (a uniform draw of its tiles), each (tiles, resolution, resolution,
    3) uint8, averaged by area. A damaged tile raises, or a neighbour stands in (`replace_damaged`)."""
    reader = TileReader(shards, rows["slide"].tolist())
    read = reader.decode_or_replace if replace_damaged else reader.decode
    for row, count in enumerate(rows["tiles"]):
        tiles = np.empty((count, *reader.shape), np.uint8)
        for k, tile in enumerate(tiles):
            read(row, k, tile)
        yield _at(tiles, resolution)


class NumberedTiles:
    """Real tiles by number: those of the rows' slides one after another, the first `counts` (rows,) of each."""

    def __init__(self, shards: ShardSet, slides: list[str], counts: NDArray[np.int64], resolution: int) -> None:
        self._reader, self._resolution = TileReader(shards, slides), resolution
        self._ends = np.cumsum(counts)

    def places(self, numbers: range) -> list[tuple[int, int]]:
        """(row, number in its slide) of each."""
        rows = np.searchsorted(self._ends, numbers, side="right")
        starts = np.concatenate([[0], self._ends])[rows]
        return list(zip(rows.tolist(), (np.asarray(numbers) - starts).tolist(), strict=True))

    def __call__(self, numbers: range) -> NDArray[np.uint8]:
        """(n, resolution, resolution, 3) uint8, averaged by area. A damaged tile raises."""
        tiles = np.empty((len(numbers), *self._reader.shape), np.uint8)
        for tile, place in zip(tiles, self.places(numbers), strict=True):
            self._reader.decode(*place, tile)
        return _at(tiles, self._resolution)


def _at(tiles: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    return tiles if tiles.shape[1] == resolution else np.stack([shrink(tile, resolution) for tile in tiles])


def shrink(image: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """A tile (S, S, 3) averaged by area to `resolution`, which divides S."""
    factor = image.shape[0] // resolution
    return image if factor == 1 else pictures.shrink(image, factor)
