"""Contrast and focus of a tile: two numbers from its grey levels, quick enough for every tile, and their limits."""

import bisect
import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rnagan.config.tiling import TilingConfig

ROWS = 32  # of a tile that are measured, evenly spread
FOCUS_STEP_PX = 2  # distance of the pixels that are compared: at 1 px the noise of camera and JPEG weighs more


class TileQuality(NamedTuple):
    """`contrast`: a share of the grey range, 0 … 1. `sharpness`: grey levels, 0 … 255."""

    contrast: float
    sharpness: float


def quality_problem(tile: NDArray[np.uint8], config: TilingConfig) -> str | None:
    """`low_contrast`, `out_of_focus` or None for a tile (h, w, 3) uint8 RGB that is good enough."""
    contrast, sharpness = tile_quality(tile)
    if contrast < config.min_contrast:
        return "low_contrast"
    return "out_of_focus" if sharpness < config.min_sharpness else None


def tile_quality(tile: NDArray[np.uint8]) -> TileQuality:
    """Contrast and sharpness of a tile (h, w, 3) uint8 RGB, at least 5 px wide, from about 32 of its rows.

    Contrast is the span of the 1st to the 99th percentile of grey (ITU-R 601 luma) of these rows over 255.

    Sharpness is the 99th percentile of |g(x − 2) − 2 g(x) + g(x + 2)| along them: how grey bends in the
    steepest hundredth of the tile. It is the Laplacian of Pech-Pacheco et al. 2000 (doi 10.1109/ICPR.2000.903548) in
    one direction, and a percentile instead of the variance, so that a tile with little tissue isn't taken for a
    blurred one, and a few specks of dust don't save a blurred one.
    """
    image = Image.fromarray(tile[:: max(1, len(tile) // ROWS)]).convert("L")
    low, high = _levels_at(image, 0.01, 0.99)
    grey = np.asarray(image).astype(np.int16)
    bend = grey[:, : -2 * FOCUS_STEP_PX] + grey[:, 2 * FOCUS_STEP_PX :]
    bend -= 2 * grey[:, FOCUS_STEP_PX:-FOCUS_STEP_PX]
    np.minimum(np.abs(bend, out=bend), 255, out=bend)
    sharpness = _levels_at(Image.fromarray(bend.astype(np.uint8)), 0.99)[0]
    return TileQuality((high - low) / 255, float(sharpness))


def _levels_at(image: Image.Image, *shares: float) -> list[int]:
    """Percentiles of a grey image: for each share, the lowest level that it doesn't exceed."""
    cumulated = list(itertools.accumulate(image.histogram()))
    return [bisect.bisect_left(cumulated, share * cumulated[-1]) for share in shares]
