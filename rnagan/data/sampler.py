"""The one order of training samples: an endless sequence addressed by image number.

It depends on the seed, the selection and the window alone, never on processes, workers or batch size
(DESIGN.md, "One order of training samples, everywhere").
"""

import bisect
import functools
import heapq
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rnagan.runtime import rng

WINDOW = 1024  # slides that are open at a time; well above any batch, so that a batch mixes as many donors as can be
TURN = 1024  # images that are shuffled together
BLOCK = 10_000  # images in which the shares of groups are kept exactly
Indices = NDArray[np.int64]


class Order(Protocol):
    """Which tile of which slide is image number 0, 1, 2, …"""

    counts: Indices  # (slides,) tiles in use of each

    @property
    def epoch_length(self) -> int:
        """Tiles in use."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the images that each slide has in the long run, (slides,)."""

    def locate(self, start: int, count: int) -> Indices:
        """Slide and tile of images start … start+count−1, shape (count, 2), int64."""


class _Epoch(NamedTuple):
    """Slides dealt into lanes, which move on together: turn t gives tiles `taken(t)` … `taken(t + 1) − 1` of each."""

    number: int
    turns: int
    lengths: Indices  # (lanes,) tiles of each lane
    phases: Indices  # (lanes,) in 0 … turns−1
    slides: Indices  # by lane, and in a lane in the order in which they are read
    places: Indices  # (slides,) lane · stride + tiles that lie before it in its lane, rising
    stride: int

    def taken(self, turn: int) -> Indices:
        """Tiles that each lane has given before a turn, (lanes,)."""
        return (turn * self.lengths + self.phases) // self.turns


class TileOrder:
    """Which tile of which slide is image number 0, 1, 2, …

    `counts` (slides,) is the number of tiles used of each slide; a tile is (slide, k) with k < counts[slide].
    Each epoch holds every selected tile once. In `mixed` order the slides are dealt into at most `window` lanes, in
    each of which one slide is read after another, so at most `window` are open at a time. An epoch is cut into turns of
    about `TURN` images, or as many as there are lanes; in each every lane gives its share of tiles, in a random order:
    all lanes end together, and a batch holds slides nearly as independent draws would. `by_slide` has one lane.
    Only slides are held in memory, not tiles, so 100 million of those are no burden.
    """

    def __init__(
        self, counts: Indices, seed: int, window: int = WINDOW, by_slide: bool = False, purpose: str = "order"
    ) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        self.seed, self.window, self.purpose = seed, 1 if by_slide else window, purpose
        self.epoch_length = int(self.counts.sum())
        if not self.epoch_length:
            raise ValueError("The selection holds no tile; check split, tissue and the slides of the cohort table.")
        self._cached: _Epoch | None = None

    @property
    def shares(self) -> NDArray[np.float64]:
        return self.counts / self.epoch_length

    def locate(self, start: int, count: int) -> Indices:
        """Slide and tile of images start … start+count−1, shape (count, 2), int64."""
        pieces = [np.empty((0, 2), np.int64)]
        while count > 0:
            epoch, offset = divmod(start, self.epoch_length)
            piece = self._rest_of_turn(self._epoch(epoch), offset)[:count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(pieces)

    def _rest_of_turn(self, epoch: _Epoch, offset: int) -> Indices:
        """Tiles from `offset` in an epoch to the end of its turn."""
        turn = bisect.bisect_right(range(1, epoch.turns), offset, key=lambda end: int(epoch.taken(end).sum()))
        before, after = epoch.taken(turn), epoch.taken(turn + 1)
        lanes = np.repeat(np.arange(len(before)), after - before)
        lanes = rng.generator(self.seed, f"{self.purpose}/{epoch.number}", turn).permutation(lanes)
        places = lanes * epoch.stride + before[lanes] + _occurrence(lanes)
        places = places[offset - int(before.sum()) :]
        rows = np.searchsorted(epoch.places, places, side="right") - 1
        return np.stack([epoch.slides[rows], places - epoch.places[rows]], axis=1)

    def _epoch(self, number: int) -> _Epoch:
        if self._cached is None or self._cached.number != number:
            self._cached = self._make_epoch(number)
        return self._cached

    def _make_epoch(self, number: int) -> _Epoch:
        draw = rng.generator(self.seed, self.purpose, number)
        slides = draw.permutation(np.flatnonzero(self.counts))
        counts = self.counts[slides]
        lanes, first = _deal(counts, min(self.window, len(slides)))
        lengths = np.bincount(lanes, weights=counts).astype(np.int64)
        turns = max(1, self.epoch_length // max(TURN, len(lengths)))
        phases = draw.integers(0, turns, len(lengths))
        stride = int(lengths.max())
        by_lane = np.lexsort((first, lanes))
        places = (lanes * stride + first)[by_lane]
        return _Epoch(number, turns, lengths, phases, slides[by_lane], places, stride)


class ReshuffledOrder:
    """As `TileOrder`, but the items of a slide come in another order in each epoch.

    For items that are as quick to read in any order: with few slides, each of them long, a `TileOrder` shows much the
    same neighbours together in every epoch.
    """

    def __init__(self, counts: Indices, seed: int, window: int = WINDOW, purpose: str = "order") -> None:
        self._order = TileOrder(counts, seed, window, purpose=purpose)
        self.counts, self.seed, self.window, self.purpose = self._order.counts, seed, window, purpose
        self.epoch_length = self._order.epoch_length
        self._shuffled = functools.lru_cache(maxsize=2 * len(self.counts))(self._shuffle)

    def __reduce__(self) -> tuple:
        return ReshuffledOrder, (self.counts, self.seed, self.window, self.purpose)

    @property
    def shares(self) -> NDArray[np.float64]:
        return self._order.shares

    def locate(self, start: int, count: int) -> Indices:
        """Slide and item of numbers start … start+count−1, shape (count, 2), int64."""
        located = self._order.locate(start, count)
        epochs = np.arange(start, start + count) // self.epoch_length
        for at, (epoch, (slide, k)) in enumerate(zip(epochs.tolist(), located.tolist(), strict=True)):
            located[at, 1] = self._shuffled(epoch, slide)[k]
        return located

    def _shuffle(self, epoch: int, slide: int) -> Indices:
        return rng.generator(self.seed, f"{self.purpose}/{epoch}/items", slide).permutation(int(self.counts[slide]))


class WeightedOrder:
    """An order in which groups of slides, such as tissues, have given shares of the images.

    `groups` (slides,) names the group of each slide, `weights` the weight of each group; one of weight 0 is left out.
    Every block of about `BLOCK` images holds each group's share, to the nearest image, in a random order. Within a
    group the tiles come in a `TileOrder` of its own, each once in a pass; `window` slides are open in all.
    Equal weights give exactly equal shares.
    """

    def __init__(
        self, counts: Indices, groups: list[str], weights: Mapping[str, float], seed: int, window: int = WINDOW
    ) -> None:
        self.counts = np.asarray(counts, dtype=np.int64).copy()
        self.groups, self.weights, self.seed = groups, weights, seed
        names = np.array(groups)
        kept = sorted(name for name in set(groups) if weights[name] > 0)
        self.counts[~np.isin(names, kept)] = 0
        total = sum(weights[name] for name in kept)
        self._shares = _shares([weights[name] / total for name in kept])
        self._orders = []
        for name in kept:
            own = np.where(names == name, self.counts, 0)
            if not own.any():
                raise ValueError(f"{name} has a weight and no tile; give it weight 0, or slides.")
            open_slides = max(1, round(window * weights[name] / total))
            self._orders.append(TileOrder(own, seed, open_slides, purpose=f"order of {name}"))
        self._cached: tuple[int, Indices] | None = None

    @property
    def epoch_length(self) -> int:
        return int(self.counts.sum())

    @property
    def shares(self) -> NDArray[np.float64]:
        return sum(
            share * order.shares for share, order in zip(self._shares / self._shares.sum(), self._orders, strict=True)
        )

    def locate(self, start: int, count: int) -> Indices:
        """Slide and tile of images start … start+count−1, shape (count, 2), int64."""
        pieces = [np.empty((0, 2), np.int64)]
        length = int(self._shares.sum())
        while count > 0:
            block, offset = divmod(start, length)
            pieces.append(self._part_of_block(block, offset, min(count, length - offset)))
            start, count = start + len(pieces[-1]), count - len(pieces[-1])
        return np.concatenate(pieces)

    def _part_of_block(self, block: int, offset: int, count: int) -> Indices:
        groups = self._groups_of_block(block)
        part, before = groups[offset : offset + count], groups[:offset]
        tiles = np.empty((count, 2), np.int64)
        for number, order in enumerate(self._orders):
            chosen = part == number
            first = block * int(self._shares[number]) + np.count_nonzero(before == number)
            tiles[chosen] = order.locate(int(first), int(chosen.sum()))
        return tiles

    def _groups_of_block(self, block: int) -> Indices:
        """The number of the group of each image of a block."""
        if self._cached is None or self._cached[0] != block:
            groups = np.repeat(np.arange(len(self._shares)), self._shares)
            self._cached = block, rng.generator(self.seed, "order of groups", block).permutation(groups)
        return self._cached[1]


def _shares(weights: list[float]) -> Indices:
    """Images of each group in a block, by largest remainder, at least one each; equal weights get equal shares."""
    exact = np.array(weights) * (BLOCK // len(weights) * len(weights))
    shares = np.maximum(1, np.floor(exact + 1e-6)).astype(np.int64)
    short = max(0, round(exact.sum()) - int(shares.sum()))
    shares[np.argsort(shares - exact, kind="stable")[:short]] += 1
    return shares


def _occurrence(labels: Indices) -> Indices:
    """How many equal labels stand before each label: [7, 5, 7, 7] → [0, 0, 1, 2]."""
    by_label = np.argsort(labels, kind="stable")
    in_order = labels[by_label]
    starts = np.flatnonzero(np.diff(in_order, prepend=-1))
    occurrence = np.empty_like(labels)
    occurrence[by_label] = np.arange(len(labels)) - np.repeat(starts, np.diff(starts, append=len(labels)))
    return occurrence


def _deal(counts: Indices, lanes: int) -> tuple[Indices, Indices]:
    """Lane of each slide, and tiles before it there, when slides go, in order, to the lane that is free first."""
    free = [(0, lane) for lane in range(lanes)]
    dealt = []
    for n in counts.tolist():
        first, lane = free[0]
        dealt.append((lane, first))
        heapq.heapreplace(free, (first + n, lane))
    lane_of, first_of = np.array(dealt, np.int64).T
    return lane_of, first_of
