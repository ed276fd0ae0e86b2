"""Tiles by slide and number: their stored bytes, or their pixels, checked; what is damaged may be replaced."""

import functools
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan.data.images import decode_into
from rnagan.data.index import DamagedShard, Locations, ShardSet, tar_name
from rnagan.data.order import WINDOW

MORE_OPEN = 256  # slides whose indexes are kept, above the window of the order
MOST_REPLACEMENTS_TRIED = 64


class DamagedTile(ValueError):  # noqa: N818
    """A stored image is not what its sum says, or no image of the right size."""


class Tile(NamedTuple):
    """A tile: the slide's row in the list of slides, and its number in stored order."""

    slide: int
    k: int


class TileReader:
    """Reads stored tiles by (slide, k); every read is checked against the index's CRC-32.

    `counts` (slides,): how many tiles of each slide are in use, all of them by default. `window`: that of the order;
    the indexes of somewhat more slides are kept, 16 bytes a tile in use. May be used by several threads.
    """

    def __init__(
        self, shards: ShardSet, slides: list[str], counts: NDArray[np.int64] | None = None, window: int = WINDOW
    ) -> None:
        self.shards, self.slides, self.counts, self.window = shards, slides, counts, window
        self._make_caches()

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in ("shards", "slides", "counts", "window")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._make_caches()

    def read(self, slide: int, k: int) -> bytes:
        """The bytes of tile k of a slide, exactly as stored. Raises `DamagedTile` or `DamagedShard`."""
        tar, where = self._locations(slide)
        offset, size, crc = where.offset.item(k), where.size.item(k), where.crc32.item(k)
        data = self.shards.storage.read_range(tar, offset, size)
        if zlib.crc32(data) != crc:
            data = self.shards.storage.read_again(tar, offset, size)
        if zlib.crc32(data) != crc:
            raise DamagedTile(f"{self._tar(slide)} is damaged at tile {k} (CRC-32 differs); build this slide again.")
        return data

    def decode(self, slide: int, k: int, out: NDArray[np.uint8]) -> None:
        """The pixels of tile k of a slide into `out` (H, W, 3), RGB. Raises as `read` does."""
        try:
            decode_into(self.read(slide, k), out)
        except DamagedTile:
            raise
        except ValueError as error:
            raise DamagedTile(
                f"{self._tar(slide)} holds no readable image at tile {k} ({error}); build this slide again."
            ) from None

    def decode_or_replace(self, slide: int, k: int, out: NDArray[np.uint8]) -> tuple[Tile, str | None]:
        """As `decode`; a damaged tile is replaced by the next one of its slide in use, or else of the next slide.

        Returns the tile that was decoded, and, where it isn't the one that was asked for, what is wrong with that one.
        Where 64 neighbours in a row are damaged too the error of the first is raised.
        """
        first: ValueError | None = None
        for candidate in self._neighbours(slide, k):
            try:
                self.decode(*candidate, out)
                return candidate, None if first is None else str(first)
            except (DamagedTile, DamagedShard) as error:
                first = first or error
        assert first is not None
        raise first

    def _neighbours(self, slide: int, k: int) -> Iterator[Tile]:
        tried = 0
        for step in range(len(self.slides)):
            row = (slide + step) % len(self.slides)
            count = self._count(row)
            for further in range(count):
                yield Tile(row, (k + further) % count)
                tried += 1
                if tried > MOST_REPLACEMENTS_TRIED:
                    return
                if row in self._damaged:  # none of its tiles can be read
                    break

    def _count(self, slide: int) -> int:
        if self.counts is not None:
            return int(self.counts[slide])
        return self.shards.tiles_of(self.slides[slide])

    def _tar(self, slide: int) -> str:
        return self.shards.tar_address(self.slides[slide])

    def _locations(self, slide: int) -> tuple[str, Locations]:
        """The name of a slide's tar, and where its tiles lie in it."""
        if slide in self._damaged:
            raise self._damaged[slide]
        return self._cached(slide)

    def _find(self, slide: int) -> tuple[str, Locations]:
        count = None if self.counts is None else int(self.counts[slide])
        try:
            return tar_name(self.slides[slide]), self.shards.locations(self.slides[slide], count)
        except DamagedShard as error:
            self._damaged[slide] = error
            raise

    def _make_caches(self) -> None:
        self._damaged: dict[int, DamagedShard] = {}
        self._cached = functools.lru_cache(maxsize=self.window + MORE_OPEN)(self._find)
