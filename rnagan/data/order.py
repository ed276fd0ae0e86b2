"""The one order of training samples: an endless sequence addressed by image number.

It depends on the seed, the selection and the window alone, never on processes, workers or batch size
(DESIGN.md, "One order of training samples, everywhere").
"""

import heapq

import numpy as np
from numpy.typing import NDArray

from rnagan import rng

Indices = NDArray[np.int64]


class TileOrder:
    """Which tile of which slide is image number 0, 1, 2, …

    `counts` (slides,) is the number of tiles used of each slide; a tile is (slide, k) with k < counts[slide].
    Each epoch holds every selected tile once. In `mixed` order the slides are dealt into `window` lanes that take
    turns, in a new random order each turn, so `window` slides are open at a time; `by_slide` reads one after another.
    """

    def __init__(self, counts: Indices, seed: int, window: int = 256, by_slide: bool = False) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        self.seed, self.window = seed, 1 if by_slide else window
        self.epoch_length = int(self.counts.sum())
        if not self.epoch_length:
            raise ValueError("The selection holds no tile; check split, tissue and the slides of the cohort table.")
        self._cached: tuple[int, Indices] | None = None

    def locate(self, start: int, count: int) -> Indices:
        """Slide and tile of images start … start+count−1, shape (count, 2), int64."""
        pieces = []
        while count > 0:
            epoch, offset = divmod(start, self.epoch_length)
            piece = self._epoch(epoch)[offset : offset + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(pieces) if pieces else np.empty((0, 2), np.int64)

    def _epoch(self, epoch: int) -> Indices:
        if self._cached is None or self._cached[0] != epoch:
            self._cached = epoch, self._make_epoch(epoch)
        return self._cached[1]

    def _make_epoch(self, epoch: int) -> Indices:
        random = rng.generator(self.seed, "order", epoch)
        slides = random.permutation(np.flatnonzero(self.counts))
        lanes = _deal(self.counts[slides], self.window)
        tiles = np.concatenate([np.stack([np.full(n, s), np.arange(n)], axis=1)
                                for s, n in zip(slides, self.counts[slides], strict=True)])
        turn = np.concatenate([first + np.arange(n) for first, n in zip(lanes, self.counts[slides], strict=True)])
        return tiles[np.lexsort((random.random(len(turn)), turn))]


def _deal(counts: Indices, lanes: int) -> list[int]:
    """First turn of each slide when slides go, in order, to the lane that is free first."""
    free = [0] * min(lanes, len(counts))
    first = []
    for n in counts:
        turn = heapq.heappop(free)
        first.append(turn)
        heapq.heappush(free, turn + int(n))
    return first
