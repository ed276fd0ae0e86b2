"""Are painted tiles copies of training tiles? Distances to the nearest real training tile, beside real held-out tiles'.

A generator that copies comes nearer to its training tiles than new tissue does. Distances are Euclidean between an
extractor's features, and the smallest over the eight flips and quarter turns of the tile in question: tissue has no
upside, and training turns tiles.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan.evaluation.features import FeatureExtractor

SYMMETRIES = 8
PERCENTILE = 1.0  # of held-out real tiles' distances, which as many of them lie below


class Neighbours(NamedTuple):
    """Of each tile its nearest training tiles, nearest first: their row, the distance, and the number of the symmetry
    of the tile (`symmetry`) that comes so near, all (n, k)."""

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]
    symmetries: NDArray[np.int64]


def symmetry(tiles: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Tiles (n, S, S, 3) turned by `number % 4` quarter turns, then mirrored if `number` is 4 or more."""
    turned = np.rot90(tiles, number % 4, axes=(1, 2))
    return turned[:, :, ::-1] if number >= 4 else turned


def undone(tiles: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """What `symmetry` of the same number makes these tiles of."""
    return np.rot90(tiles[:, :, ::-1] if number >= 4 else tiles, -number % 4, axes=(1, 2))


def nearest(
    tiles: NDArray[np.uint8], training: NDArray[np.float32], extractor: FeatureExtractor, k: int = 4
) -> Neighbours:
    """The `k` nearest training tiles, by their features (m, width), of each of `tiles` (n, S, S, 3).

    Features of each tile's eight symmetries are taken, not of the training tiles', of which there are far more.
    """
    k = min(k, len(training))
    each = np.stack([_distances(extractor(symmetry(tiles, g)), training) for g in range(SYMMETRIES)])
    symmetries, distances = each.argmin(axis=0), each.min(axis=0)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Neighbours(rows, *(np.take_along_axis(values, rows, axis=1) for values in (distances, symmetries)))


def _distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances (n, m), in float64: of copies the squares nearly cancel."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0))


class CopyTest(NamedTuple):
    """`share`: of painted tiles nearer to a training tile than `threshold`, the 1st percentile of held-out real tiles'
    distances; `expected` (0.01) where painted tiles are as new as those. `ratio`: painted over held-out median."""

    share: float
    expected: float
    threshold: float
    ratio: float
    painted: int
    held_out: int


def copy_test(painted: NDArray[np.float64], held_out: NDArray[np.float64]) -> CopyTest:
    """From each tile's distance to its nearest training tile: (n,) of painted, (m,) of held-out real tiles.

    A share well above the expected one says that tiles lie nearer to training tiles than new tissue does: look at the
    picture, since smooth, average-looking tiles come near to many without being copies. With fewer than 100 held-out
    tiles the percentile is the least of them, roughly.
    """
    threshold = float(np.percentile(held_out, PERCENTILE))
    share = float(np.mean(painted < threshold))
    ratio = float(np.median(painted) / max(np.median(held_out), 1e-12))
    return CopyTest(share, PERCENTILE / 100, threshold, ratio, len(painted), len(held_out))
