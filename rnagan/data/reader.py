"""Tiles by slide and number: their stored bytes, or their pixels, checked; what is damaged may be replaced.

Profiles are read by the same rules (rnagan/data/profile_shards.py), where a slide is a shard and a tile is a profile.
"""

import abc
import functools
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnagan.data.augment import draw_corners
from rnagan.data.image_codec import decode_into
from rnagan.data.index import DamagedShard, Locations, Shards, ShardSet, tar_name
from rnagan.data.packed import Packed, Row
from rnagan.data.sampler import WINDOW
from rnagan.data.shard_schema import ProfileKind, TileKind


class Replaced(NamedTuple):
    """A damaged tile, or profile, that a neighbour stands in for."""

    number: int  # of the image in the sequence
    slide: str
    tile: int
    problem: str


class Batch(NamedTuple):
    """Tiles of images `start` … `start + n − 1` of the endless sequence."""

    start: int
    images: Tensor  # (n, 3, H, W) uint8, channels-last memory
    slides: Tensor  # (n,) int64, rows of the selection's table (`ShardReader.labels`)
    tiles: Tensor  # (n,) int64, numbers of the tiles in their slides, in stored order
    replaced: tuple[Replaced, ...] = ()
    packed: Packed | None = None  # all of it, and what was made beside it, pinned where a GPU is used


class ProfileBatch(NamedTuple):
    """Profiles number `start` … `start + n − 1` of the endless sequence."""

    start: int
    values: Tensor  # (n, genes) float32 in the units of the set, pinned where a GPU is used
    rows: Tensor  # (n,) int64, rows of the set's `samples`
    replaced: tuple[Replaced, ...] = ()


FEW_SLIDES = 8  # whose tiles by profile are kept, for those that are read profile by profile
MORE_OPEN = 256  # slides whose indexes are kept, above the window of the order
MOST_REPLACEMENTS_TRIED = 64


class DamagedTile(ValueError):  # noqa: N818
    """A stored image, or profile, is not what its sum says, or can't be decoded to the right size."""


Corner = tuple[int, int]  # row and column, px, in a stored image


class Tile(NamedTuple):
    """A tile: the slide's row in the list of slides, and its number in stored order."""

    slide: int
    k: int


class ShardReader(abc.ABC):
    """Reads stored items of one shape and dtype by (slide, k); every read is checked against the index's CRC-32.

    `counts` (slides,): how many items of each slide are in use, all of them by default. `window`: that of the order;
    the indexes of somewhat more slides are kept, 16 bytes an item in use. May be used by several threads.
    """

    kind: type[TileKind] | type[ProfileKind]
    shape: tuple[int, ...]  # of an item, as it is decoded
    dtype: type[np.generic]

    def __init__(
        self, shards: Shards, slides: list[str], counts: NDArray[np.int64] | None = None, window: int = WINDOW
    ) -> None:
        self.shards, self.slides, self.counts, self.window = shards, slides, counts, window
        self._make_caches()

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._make_caches()

    @property
    def rows(self) -> dict[str, Row]:
        """What a batch holds of an item: itself, decoded, and its `labels`."""
        own = torch.from_numpy(np.empty(0, self.dtype)).dtype
        return {"items": Row(self.shape, own), "places": Row((2,), torch.int64)}

    @abc.abstractmethod
    def batch(self, start: int, packed: Packed, replaced: tuple[Replaced, ...]) -> Any:
        """The batch that what lies in `packed` (`rows`, and perhaps more) is handed out as."""

    @abc.abstractmethod
    def decode_bytes(self, data: bytes, out: NDArray, corner: Corner | None = None) -> None:
        """Decode stored bytes into `out` of `shape`; `ValueError`, with a phrase, where that can't be done."""

    def draw_corners(self, seed: int, start: int, count: int) -> NDArray[np.int64] | None:
        """The corners, (count, 2), at which images start … start+count−1 are shifted to be cut out; None where what is
        stored is as large as what is read."""
        return None

    def read(self, slide: int, k: int) -> bytes:
        """The bytes of item k of a slide, exactly as stored. Raises `DamagedTile` or `DamagedShard`."""
        tar, where = self._locations(slide)
        offset, size, crc = where.offset.item(k), where.size.item(k), where.crc32.item(k)
        data = self.shards.storage.read_range(tar, offset, size)
        if zlib.crc32(data) != crc:
            data = self.shards.storage.read_again(tar, offset, size)
        if zlib.crc32(data) != crc:
            raise self._damage(f"is damaged at {self._name(slide, k)} (CRC-32 differs)", slide)
        return data

    def decode(self, slide: int, k: int, out: NDArray, corner: Corner | None = None) -> None:
        """Item k of a slide into `out` of `shape`: of a larger stored image its middle, or what begins at `corner`.
        Raises as `read` does."""
        data = self.read(slide, k)
        try:
            self.decode_bytes(data, out, corner)
        except ValueError as error:
            problem = f"holds no readable {self.kind.stored} at {self._name(slide, k)} ({error})"
            raise self._damage(problem, slide) from None

    def decode_or_replace(
        self, slide: int, k: int, out: NDArray, corner: Corner | None = None
    ) -> tuple[Tile, str | None]:
        """As `decode`; a damaged item is replaced by the next one of its slide in use, or else of the next slide.

        Returns the item that was decoded and, if it is a replacement, what is wrong with the one asked for. Where 64
        neighbours in a row are damaged too, the error of the first is raised.
        """
        first: ValueError | None = None
        for candidate in self._neighbours(slide, k):
            try:
                self.decode(*candidate, out, corner)
                return candidate, None if first is None else str(first)
            except (DamagedTile, DamagedShard) as error:
                first = first or error
        assert first is not None
        raise first

    def place(self, slide: int, k: int) -> int:
        """Number of item k of a slide among all that are stored."""
        return k

    def labels(self, slide: int, k: int) -> tuple[int, int]:
        """What a batch says of item k of a slide: the row of the selection's table that it is of, and its number."""
        return slide, k

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

    def _name(self, slide: int, k: int) -> str:
        return f"{self.kind.item} {self.place(slide, k)}"

    def _damage(self, problem: str, slide: int) -> DamagedTile:
        return DamagedTile(f"{self.shards.tar_address(self.slides[slide])} {problem}; {self.kind.again}.")

    def _locations(self, slide: int) -> tuple[str, Locations]:
        """The name of a slide's tar, and where its tiles lie in it."""
        if slide in self._damaged:
            raise self._damaged[slide]
        return self._cached(slide)

    def _find(self, slide: int) -> tuple[str, Locations]:
        try:
            return tar_name(self.slides[slide]), self._locate(slide)
        except DamagedShard as error:
            self._damaged[slide] = error
            raise

    def _locate(self, slide: int) -> Locations:
        """Where the items in use of a slide lie."""
        return self.shards.locations(self.slides[slide], None if self.counts is None else int(self.counts[slide]))

    def _make_caches(self) -> None:
        self._damaged: dict[int, DamagedShard] = {}
        self._cached = functools.lru_cache(maxsize=self.window + MORE_OPEN)(self._find)


class TileReader(ShardReader):
    """Reads tiles, as pixels (H, W, 3) RGB uint8. `counts`: of the tiles of a slide the first so many are in use. A
    margin of the stored images is cut off."""

    kind, dtype = TileKind, np.uint8

    def __init__(
        self, shards: ShardSet, slides: list[str], counts: NDArray[np.int64] | None = None, window: int = WINDOW
    ) -> None:
        super().__init__(shards, slides, counts, window)
        self.shape = (shards.tile_px, shards.tile_px, 3)

    def batch(self, start: int, packed: Packed, replaced: tuple[Replaced, ...]) -> Batch:
        slides, tiles = packed.field("places").T
        return Batch(start, packed.field("items").permute(0, 3, 1, 2), slides, tiles, replaced, packed)

    def decode_bytes(self, data: bytes, out: NDArray, corner: Corner | None = None) -> None:
        assert isinstance(self.shards, ShardSet)
        margin, side = self.shards.margin_px, self.shards.tile_px
        if not margin:
            decode_into(data, out)
            return
        whole = np.empty((side + 2 * margin, side + 2 * margin, 3), np.uint8)
        decode_into(data, whole)
        row, column = corner or (margin, margin)
        out[:] = whole[row : row + side, column : column + side]

    def draw_corners(self, seed: int, start: int, count: int) -> NDArray[np.int64] | None:
        assert isinstance(self.shards, ShardSet)
        margin = self.shards.margin_px
        return draw_corners(seed, start, count, margin) if margin else None


class _OfProfiles(NamedTuple):
    """Tiles of a slide by their profiles: those of profile n of the slide are tiles order[first[n]] …
    order[first[n + 1] − 1]. `where`: of all its tiles."""

    order: NDArray[np.int32]
    first: NDArray[np.int64]
    where: Locations

    @classmethod
    def of(cls, numbers: NDArray[np.int32], where: Locations) -> "_OfProfiles":
        """`numbers` (tiles,): the profile of each, none below 0."""
        order = np.argsort(numbers, kind="stable").astype(np.int32)
        return cls(order, np.append(0, np.cumsum(np.bincount(numbers))), where)

    def tiles(self, profiles: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Numbers of the tiles of these profiles, rising, and of each the number of its profile in the list."""
        counts = self.first[profiles + 1] - self.first[profiles]
        which = np.repeat(np.arange(len(profiles)), counts)
        place = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        tiles = self.order[self.first[profiles][which] + place]
        rising = np.argsort(tiles)
        return tiles[rising], which[rising]


class SpotReader(TileReader):
    """Reads tiles that have profiles of their own: item k of a slide is the k-th tile whose profile is in use there.

    `profiles` (rows,): of each row of the selection's table its row in the set's table of profiles, one slide after
    another; `firsts` (slides,): the first row of each slide. A slide may come several times, each with some of its
    profiles. `counts` (slides,): the first so many tiles are in use. What is kept of an open slide is 28 bytes a tile
    in use, and of the latest few 20 bytes a tile more.
    """

    def __init__(
        self,
        shards: ShardSet,
        slides: list[str],
        profiles: NDArray[np.int32],
        firsts: NDArray[np.int64],
        counts: NDArray[np.int64],
        window: int = WINDOW,
    ) -> None:
        super().__init__(shards, slides, counts, window)
        self.profiles, self.firsts = profiles, firsts

    def labels(self, slide: int, k: int) -> tuple[int, int]:
        tiles, rows = self._tiles(slide)
        return rows.item(k), tiles.item(k)

    def place(self, slide: int, k: int) -> int:
        return self._tiles(slide)[0].item(k)

    def _locate(self, slide: int) -> Locations:
        tiles, _ = self._tiles(slide)
        where = self._of_profiles(self.slides[slide]).where
        return Locations(where.offset[tiles], where.size[tiles], where.crc32[tiles])

    def _choose(self, slide: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Numbers of the tiles in use of a slide, rising, and the row of the selection's table of each."""
        assert isinstance(self.shards, ShardSet) and self.shards.profiles is not None
        name, count = self.slides[slide], self._count(slide)
        start, end = np.append(self.firsts, len(self.profiles))[slide : slide + 2].tolist()
        first, own = self.shards.profiles.of_slide(name)
        found = self._of_profiles(name)
        if len(found.first) != len(own) + 1:
            raise self._another(name)
        tiles, which = found.tiles(self.profiles[start:end].astype(np.int64) - first)
        if len(tiles) < count:
            raise self._another(name)
        return tiles[:count], which[:count] + start

    def _read_profiles(self, slide: str) -> _OfProfiles:
        assert isinstance(self.shards, ShardSet)
        numbers, where = self.shards.profiles_of_tiles(slide)
        if len(numbers) and numbers.min() < 0:
            raise self._another(slide)
        return _OfProfiles.of(numbers, where)

    def _make_caches(self) -> None:
        super()._make_caches()
        self._tiles = functools.lru_cache(maxsize=self.window + MORE_OPEN)(self._choose)
        self._of_profiles = functools.lru_cache(maxsize=FEW_SLIDES)(self._read_profiles)

    def _another(self, slide: str) -> DamagedShard:
        return DamagedShard(
            f"The index of {self.shards.tar_address(slide)} names other profiles than profiles.parquet of its folder; "
            "mend it with rnagan check-shards --repair."
        )
