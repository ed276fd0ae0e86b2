"""Measures of morphology on H&E tiles, made for the simulated cohort and for what a generator generates after it.

All work on optical density against glass and weigh pixels softly, so that blur and noise of a generator cost little.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter
from scipy.special import expit

from rnagan.evaluation.features import check_tiles

MEASURES = ("nuclear_density", "air_fraction", "matrix_colour", "site_stain")
GLASS = 244  # grey level without absorption
AIR_DENSITY = 0.19  # green optical density below which a pixel is air
NUCLEAR_DENSITY = (0.40, 0.65)  # red optical density where a nucleus starts and where it certainly is
BLOB_UM = 1.5  # SD of the smoothing in which nuclei are counted
BLOB_PEAK = 0.35  # height of a nucleus there that counts by half
GUARD_UM = 3.0  # a nucleus whose middle is nearer to the tile's edge isn't counted, nor is that area
_DENSITY = np.maximum(-np.log(np.clip(np.arange(256), 1, None) / GLASS), 0).astype(np.float32)


def measure(tiles: NDArray[np.uint8], mpp: float) -> dict[str, NDArray[np.float64]]:
    """Morphology of each tile: (n, H, W, 3) uint8 RGB at `mpp` µm per px → float64 (n,) by name (`MEASURES`).

    nuclear_density  dark blobs per mm² of the tile
    air_fraction     share of near-white area, 0 … 1
    matrix_colour    red over green optical density of what is neither nucleus nor air: eosin is low, blue matrix high
    site_stain       blue over green optical density of all tissue: yellowish stains are high

    Colours are ratios of sums, so how strongly a tile is stained cancels out. They are 0 where there is no tissue.
    """
    check_tiles(tiles)
    red, green, blue = (_DENSITY[tiles[..., channel]] for channel in range(3))
    air = expit((AIR_DENSITY - green) / 0.02)
    nuclear = np.clip((red - NUCLEAR_DENSITY[0]) / (NUCLEAR_DENSITY[1] - NUCLEAR_DENSITY[0]), 0, 1)
    # Rims of nuclei and of air are mixtures: the matrix is taken from pixels well away from both, if there are any.
    rim = 2 * round(1.5 / mpp) + 1
    impure = maximum_filter(np.maximum(nuclear, air), (1, rim, rim))
    matrix = np.where(impure < 0.05, 1, 1e-4).astype(np.float32) * (1 - air)
    return {
        "nuclear_density": count_blobs(nuclear, mpp),
        "air_fraction": air.mean((1, 2), dtype=np.float64),
        "matrix_colour": _ratio(matrix * red, matrix * green),
        "site_stain": _ratio((1 - air) * blue, (1 - air) * green),
    }


def count_blobs(nuclear: NDArray[np.float32], mpp: float) -> NDArray[np.float64]:
    """Blobs per mm² in maps (n, H, W) of 0 … 1: peaks of the smoothed map, low ones counting in part."""
    smooth = gaussian_filter(nuclear, (0, BLOB_UM / mpp, BLOB_UM / mpp), mode="reflect", truncate=3)
    window = 2 * max(1, round(2 / mpp)) + 1
    is_peak = (smooth == maximum_filter(smooth, (1, window, window))) & (smooth > 0.1)  # flat emptiness is no peak
    ties = uniform_filter(is_peak.astype(np.float32), (1, window, window)) * window**2  # pixels that share a flat top
    peak = is_peak * expit((smooth - BLOB_PEAK) / 0.04) / np.maximum(ties, 1)
    guard = round(GUARD_UM / mpp)
    inner = peak[:, guard : peak.shape[1] - guard, guard : peak.shape[2] - guard]
    return inner.sum((1, 2), dtype=np.float64) / (inner.shape[1] * inner.shape[2] * mpp**2 * 1e-6)


def _ratio(above: NDArray[np.float32], below: NDArray[np.float32]) -> NDArray[np.float64]:
    total = below.sum((1, 2), dtype=np.float64)
    return above.sum((1, 2), dtype=np.float64) / np.where(total > 0, total, 1)
