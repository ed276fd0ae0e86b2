"""Whether the levels of a pyramid show level 0: their sizes must agree, and so must their pixels in samples."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rnagan.data.build_jobs import SourceError

_PATCH_PX = 64  # side of a sample, at the level in question
_GRID = 5  # samples across and down, of which the most textured are compared
_COMPARED = 5  # the most textured, and as many of the others
_SMALL_PX = 16  # side to which samples are reduced: what noise and sharpening differ in is gone
_TEXTURE = 6.0  # grey levels of standard deviation from which on a sample shows something
_OTHER_GREY = 40.0  # grey levels of difference between samples that show nothing
_ALIKE = 0.6  # correlation from which on two samples show the same
_MAX_UNLIKE = 0.25  # share of the samples

# Level, x and y in its pixels, width and height → RGB; `SourceError` where it can't be read.
Read = Callable[[int, int, int, int, int], NDArray[np.uint8]]


class Pyramid:
    """Levels of (width, height) px, the finest first, and a way to read them."""

    def __init__(self, sizes: Sequence[tuple[int, int]], read: Read) -> None:
        self._sizes, self._read = sizes, read
        self.shows_level_0 = functools.cache(self._shows_level_0)

    def _shows_level_0(self, level: int) -> bool:
        """Whether `level` is level 0, smaller, and nothing else: not padded, and no other picture."""
        if level == 0:
            return True
        if not same_shape(self._sizes[0], self._sizes[level]):
            return False
        finer = next(finer for finer in range(level - 1, -1, -1) if self.shows_level_0(finer))
        return self._look_alike(finer, level)

    def _look_alike(self, finer: int, coarser: int) -> bool:
        width, height = self._sizes[coarser]
        side = min(_PATCH_PX, width, height)
        samples = []
        for y in _spread(height - side):
            for x in _spread(width - side):
                try:
                    samples.append((x, y, _small_grey(self._read(coarser, x, y, side, side))))
                except SourceError:  # a damaged place says nothing
                    continue
        samples.sort(key=lambda sample: -sample[2].std())
        others = samples[_COMPARED:]
        samples = samples[:_COMPARED] + others[:: max(1, len(others) // _COMPARED)]
        scale = self._sizes[finer][0] / width
        votes = []
        for x, y, seen in samples:
            try:
                region = self._read(finer, round(x * scale), round(y * scale), *[max(1, round(side * scale))] * 2)
            except SourceError:
                continue
            votes.append(_alike(seen, _small_grey(region)))
        clear = [vote for vote in votes if vote is not None]
        return clear.count(False) <= _MAX_UNLIKE * len(clear)


def same_shape(finest: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one factor makes `other`, (width, height), of `finest`, to a pixel of rounding."""
    low = max(whole / (side + 1) for whole, side in zip(finest, other, strict=True))
    high = min(whole / (side - 1) if side > 1 else np.inf for whole, side in zip(finest, other, strict=True))
    return low <= high


def _spread(last: int) -> list[int]:
    """Up to `_GRID` positions from 0 to nearly `last`, on whole samples, which seldom cut a slide's own tiles."""
    return np.unique(np.linspace(0, last, _GRID).astype(int) // _PATCH_PX * _PATCH_PX).tolist()


def _small_grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    small = Image.fromarray(image).convert("L").resize((_SMALL_PX, _SMALL_PX), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float64)


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool | None:
    """Whether two samples show the same; None where both show nothing, in one colour."""
    if max(one.std(), other.std()) < _TEXTURE:
        return None if abs(one.mean() - other.mean()) < _OTHER_GREY else False
    deviations = one - one.mean(), other - other.mean()
    spread = one.std() * other.std()
    return bool(spread > 0 and (deviations[0] * deviations[1]).mean() >= _ALIKE * spread)
