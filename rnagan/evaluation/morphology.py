"""Morphology of H&E tiles: nuclear density, air, colour of the matrix, strength of the stain.

All of it is read off optical densities, OD = −ln(I / 255), in which stains add up (Ruifrok & Johnston 2001).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

MEASURES = ("nuclear_density", "air_fraction", "matrix_colour", "site_stain")
AIR_OD = 0.25  # summed OD over R, G, B under which a pixel is empty
NUCLEUS_RED_OD = 0.42  # haematoxylin takes red light, eosin hardly any
SMOOTH_UM = 1.2  # SD of the smoothing before nuclei are counted
APART_UM = 4.0  # two nuclei are at least this far apart


def measure(tiles: NDArray[np.uint8], mpp: float) -> dict[str, NDArray[np.float64]]:
    """Measures of tiles (n, H, W, 3) at `mpp` µm per px, each (n,), NaN-free.

    nuclear_density: peaks of red absorption, per mm² of tissue (air left out). air_fraction: share of empty pixels.
    matrix_colour: (red − blue) share of the absorption of the matrix, the tissue that is neither nucleus nor air; it
    doesn't change with the strength of the stain. site_stain: summed OD of the matrix; it doesn't change with its hue.
    """
    od = -np.log((tiles.astype(np.float32) + 0.5) / 255.5)
    total, red = od.sum(axis=3), od[..., 0]
    air = total < AIR_OD
    smooth = ndimage.gaussian_filter(red, (0, SMOOTH_UM / mpp, SMOOTH_UM / mpp))
    matrix = ~air & (smooth < NUCLEUS_RED_OD * 0.75)
    pixels = tiles.shape[1] * tiles.shape[2]
    tissue_mm2 = np.maximum(pixels - air.sum(axis=(1, 2)), 1) * (mpp / 1000) ** 2
    share = np.where(matrix, 1.0, 0.0)
    count = np.maximum(share.sum(axis=(1, 2)), 1)
    red_minus_blue = ((red - od[..., 2]) * share).sum(axis=(1, 2))
    matrix_od = (total * share).sum(axis=(1, 2))
    return {
        "nuclear_density": _peaks(smooth, APART_UM / mpp) / tissue_mm2,
        "air_fraction": air.mean(axis=(1, 2)),
        "matrix_colour": red_minus_blue / np.maximum(matrix_od, 1e-6),
        "site_stain": matrix_od / count,
    }


def _peaks(smooth: Floats, apart_px: float) -> NDArray[np.int64]:
    """Number of local maxima above the nuclear threshold in each map (n, H, W), at least `apart_px` from one another."""
    side = 2 * max(1, round(apart_px / 2)) + 1
    highest = ndimage.maximum_filter(smooth, (1, side, side))
    return ((smooth == highest) & (smooth > NUCLEUS_RED_OD)).sum(axis=(1, 2))
