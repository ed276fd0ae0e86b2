"""How strongly tiles are stained, in numbers that a section or a centre decides as much as the tissue does."""

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed

from rnagan.evaluation.features import check_tiles
from rnagan.evaluation.morphology import AIR_DENSITY, GLASS

_BRIGHTEST = GLASS * np.exp(-AIR_DENSITY)  # green grey level above which a pixel is air


def stain_of(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """`models.section_stain.STAINS` of all tissue in tiles (n, H, W, 3) uint8 RGB together, float64 (4,): mean and SD
    over its pixels of the two stains' densities in the fixed basis of Ruifrok & Johnston 2001. Of nothing but air they
    are the air's."""
    check_tiles(tiles)
    tissue = tiles[tiles[..., 1] < _BRIGHTEST]
    pixels = tissue if len(tissue) else tiles.reshape(-1, 3)
    stains = rgb2hed(np.maximum(pixels, 1)[None])[0, :, :2]  # of 0 it would take a density of 6
    return np.column_stack([stains.mean(0), stains.std(0)]).ravel()
