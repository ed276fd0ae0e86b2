"""Measures of H&E tiles that need no network and hold on real tissue: stain, darkness, nuclei, white."""

import importlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from rnagan.evaluation.features import check_tiles
from rnagan.evaluation.morphology import count_blobs

SPATIAL_MEASURES = ("haematoxylin", "eosin", "darkness", "nuclear_density", "white")
OwnMeasures = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float64]]]
WHITE = 220  # grey level of the darkest channel above which a pixel is white


def measure_spots(tiles: NDArray[np.uint8], mpp: float | None, nuclear: float) -> dict[str, NDArray[np.float64]]:
    """Of each tile (n, H, W, 3) uint8 RGB at `mpp` µm per px, float64 (n,) by name (`SPATIAL_MEASURES`).

    haematoxylin, eosin  mean concentration, Ruifrok & Johnston 2001 (scikit-image's matrix), in its unit
    darkness             255 less the mean grey level of all channels
    nuclear_density      blobs of haematoxylin above `nuclear` (`nuclear_level`) per mm²; NaN where mpp is unknown
    white                share of pixels whose channels are all above WHITE, 0 … 1
    """
    check_tiles(tiles)
    found = {name: np.empty(len(tiles)) for name in SPATIAL_MEASURES}
    for k, tile in enumerate(tiles):  # one at a time: floats of a section's tiles would need gigabytes
        stain = rgb2hed(tile)
        dark = np.clip(2 * stain[None, ..., 0] / nuclear - 1.5, 0, 1).astype(np.float32)  # a half at the level
        found["haematoxylin"][k], found["eosin"][k] = stain[..., 0].mean(), stain[..., 1].mean()
        found["darkness"][k] = 255 - tile.mean()
        found["nuclear_density"][k] = np.nan if mpp is None else count_blobs(dark, mpp)[0]
        found["white"][k] = (tile.min(axis=2) > WHITE).mean()
    return found


def nuclear_level(tiles: NDArray[np.uint8]) -> float:
    """The haematoxylin that separates nuclei from the rest of real training tiles (n, H, W, 3): midway between the
    means of the two classes that Otsu's threshold makes, since the threshold itself may lie anywhere in a gap."""
    stain = np.stack([rgb2hed(tile)[..., 0] for tile in tiles])
    above = stain > threshold_otsu(stain)
    if not above.any() or above.all():
        return max(float(stain.mean()), 1e-6)
    return max(float(stain[above].mean() + stain[~above].mean()) / 2, 1e-6)


def own_measures(name: str) -> OwnMeasures:
    """A group's own measures, `module:function`: tiles (n, H, W, 3) uint8 → numbers (n,) by name, such as the fractions
    of cell types that a nucleus segmenter finds.

    Raises `ValueError` where there is no such function; what is returned raises it on anything but finite numbers, one
    a tile, and on a name that is taken.
    """
    module, colon, function = name.partition(":")
    try:
        measure = getattr(importlib.import_module(module), function) if colon else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The measures {name} can't be loaded ({error}); give module:function.") from None
    if not callable(measure):
        raise ValueError(f"The measures {name} are no function; give module:function.")

    def checked(tiles: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        found = {str(key): np.asarray(values, np.float64) for key, values in measure(tiles).items()}
        for key, values in found.items():
            if key in SPATIAL_MEASURES:
                raise ValueError(f"{name} calls a measure {key}, which is one of ours; give it another name.")
            if values.shape != (len(tiles),) or not np.isfinite(values).all():
                raise ValueError(f"{name} must give one finite number a tile for {key}.")
        return found

    return checked
