"""The one order of training samples: an endless sequence addressed by image number.

It depends on the seed, the selection and the window alone, never on processes, workers or batch size
(DESIGN.md, "One order of training samples, everywhere").
"""

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan import rng

Indices = NDArray[np.int64]


class _Epoch(NamedTuple):
    """Slides in dealt order; slide s gives its tile t − first[s] in turn t of first[s] … last[s]−1."""

    number: int
    slides: Indices
    first: Indices
    last: Indices
    ends: Indices  # (turns,) tiles given by the end of each turn


class TileOrder:
    """Which tile of which slide is image number 0, 1, 2, …

    `counts` (slides,) is the number of tiles used of each slide; a tile is (slide, k) with k < counts[slide].
    Each epoch holds every selected tile once. In `mixed` order the slides are dealt into at most `window` lanes that
    take turns, in a new random order each turn, so at most `window` slides are open at a time; `by_slide` reads one
    after another. Only slides and turns are held in memory, not tiles, so 100 million of those are no burden.
    """

    def __init__(self, counts: Indices, seed: int, window: int = 256, by_slide: bool = False) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        self.seed, self.window = seed, 1 if by_slide else window
        self.epoch_length = int(self.counts.sum())
        if not self.epoch_length:
            raise ValueError("The selection holds no tile; check split, tissue and the slides of the cohort table.")
        self._cached: _Epoch | None = None

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
        turn = int(np.searchsorted(epoch.ends, offset, side="right"))
        lanes = np.flatnonzero((epoch.first <= turn) & (turn < epoch.last))
        lanes = rng.generator(self.seed, f"order/{epoch.number}", turn).permutation(lanes)
        lanes = lanes[len(lanes) - (epoch.ends[turn] - offset) :]
        return np.stack([epoch.slides[lanes], turn - epoch.first[lanes]], axis=1)

    def _epoch(self, number: int) -> _Epoch:
        if self._cached is None or self._cached.number != number:
            self._cached = self._make_epoch(number)
        return self._cached

    def _make_epoch(self, number: int) -> _Epoch:
        slides = rng.generator(self.seed, "order", number).permutation(np.flatnonzero(self.counts))
        # As many lanes as fill evenly: 260 slides in 256 lanes would leave 4 slides alone at the end of the epoch.
        rounds = -(-len(slides) // self.window)
        first = _deal(self.counts[slides], -(-len(slides) // rounds))
        last = first + self.counts[slides]
        turns = int(last.max())
        begun, ended = (np.bincount(times, minlength=turns + 1)[:turns].cumsum() for times in (first, last))
        return _Epoch(number, slides, first, last, (begun - ended).cumsum())


def _deal(counts: Indices, lanes: int) -> Indices:
    """First turn of each slide when slides go, in order, to the lane that is free first."""
    free = [0] * lanes
    first = []
    for n in counts.tolist():
        first.append(free[0])
        heapq.heapreplace(free, free[0] + n)
    return np.array(first, np.int64)
