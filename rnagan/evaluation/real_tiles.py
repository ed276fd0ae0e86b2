"""Real tiles of shards, by the rows of a table: of slides, or of slides and profiles where tiles have their own."""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.data.index import ShardSet
from rnagan.data.reader import SpotReader, TileReader
from rnagan.io.images import shrink
from rnagan.models.sampling import number_tiles

Tiles = NDArray[np.uint8]


def tiles_of_slides(
    shards: ShardSet,
    rows: pd.DataFrame,
    resolution: int,
    replace_damaged: bool = False,
    share: range | None = None,
) -> Iterator[Tiles]:
    """The first `tiles` tiles of each row's `slide` (a uniform draw of its tiles), or of its `slide` and `sample` where
    tiles have profiles of their own, each (tiles, resolution, resolution, 3) uint8, averaged by area; of the rows
    numbered in `share` alone, where it is given. A damaged tile raises, or a neighbour stands in (`replace_damaged`),
    which may be of any row. Rows without `sample` are of whole slides."""
    reader = _reader_of_rows(shards, rows)
    read = reader.decode_or_replace if replace_damaged else reader.decode
    for row in range(len(rows)) if share is None else share:
        tiles = np.empty((rows["tiles"].iloc[row], *reader.shape), np.uint8)
        for k, tile in enumerate(tiles):
            read(row, k, tile)
        yield at_resolution(tiles, resolution)


def _reader_of_rows(shards: ShardSet, rows: pd.DataFrame) -> TileReader:
    """Reads by (row, k), of rows as `tiles_of_slides` takes them."""
    slides = rows["slide"].tolist()
    if shards.profiles is None or "sample" not in rows:
        return TileReader(shards, slides)
    profiles, tiles = shards.profiles.rows(rows["slide"], rows["sample"]), rows["tiles"].to_numpy(np.int64)
    return SpotReader(shards, slides, profiles, np.arange(len(rows)), tiles)


def row_names(shards: ShardSet, rows: pd.DataFrame) -> list[str]:
    """What rows are called: their slide, or slide and sample where tiles have profiles of their own."""
    if shards.profiles is None:
        return rows["slide"].tolist()
    return [f"{slide}/{sample}" for slide, sample in zip(rows["slide"], rows["sample"], strict=True)]


class NumberedTiles:
    """Real tiles by number: those of rows, as `tiles_of_slides` takes them, one after another, the first `counts`
    (rows,) of each."""

    def __init__(self, shards: ShardSet, rows: pd.DataFrame, counts: NDArray[np.int64], resolution: int) -> None:
        self._reader, self._resolution = _reader_of_rows(shards, rows.assign(tiles=counts)), resolution
        self._places = np.stack(number_tiles(counts), axis=1)  # (tiles, 2): row, number in its slide

    def __call__(self, numbers: range) -> Tiles:
        """(n, resolution, resolution, 3) uint8, averaged by area. A damaged tile raises."""
        tiles = np.empty((len(numbers), *self._reader.shape), np.uint8)
        for tile, (row, k) in zip(tiles, self._places[numbers.start : numbers.stop].tolist(), strict=True):
            self._reader.decode(row, k, tile)
        return at_resolution(tiles, self._resolution)


def at_resolution(tiles: Tiles, resolution: int) -> Tiles:
    """Tiles (n, S, S, 3) averaged by area to `resolution`, which divides S."""
    factor = tiles.shape[1] // resolution
    return tiles if factor == 1 else np.stack([shrink(tile, factor) for tile in tiles])


def read_tiles(shards: ShardSet, rows: pd.DataFrame, n: int, resolution: int) -> list[Tiles]:
    """The first `n` tiles of each row, as `tiles_of_slides` takes them, each (at most n, resolution, resolution, 3)."""
    return list(tiles_of_slides(shards, rows.assign(tiles=shards.stored(rows).clip(max=n)), resolution))


def real_tiles(shards: ShardSet, rows: pd.DataFrame, n: int, resolution: int) -> Iterator[tuple[str, Tiles]]:
    """Each sample of the cohort rows (sample, slide) with up to `n` of its real tiles, taken evenly from its slides."""
    each = -(-n // rows.groupby("sample")["sample"].transform("size"))
    rows = rows.assign(tiles=np.minimum(shards.stored(rows), each)).sort_values("sample", kind="stable")
    tiles = tiles_of_slides(shards, rows, resolution)
    for sample, own in rows.groupby("sample"):
        yield str(sample), np.concatenate(list(itertools.islice(tiles, len(own))))[:n]
