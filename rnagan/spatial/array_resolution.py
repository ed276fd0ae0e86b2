"""The resolution that the array of spots proves. Pure functions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from rnagan.spatial.section import Grid, Spots

TOLERANCE = 0.05  # by which the array's two directions, and what others state, may differ from it
_MOST_SLANT = 0.1  # cosine of the angle between the array's rows and columns
_MOST_OFF = 0.25  # of a step: how far spots lie from their places, root of the mean square


class FoundResolution(NamedTuple):
    """µm per pixel of the full-resolution image, and what says so, for messages."""

    mpp: float
    source: str


def resolution_of_spots(spots: Spots) -> FoundResolution | None:
    """The resolution by the file's own word, by the array, or by the distance of neighbours; None where nothing says.

    Raises `ValueError`, the end of a sentence about the section, where positions don't lie on the array, and where the
    file's word contradicts it.
    """
    by_array = None
    if spots.grid is not None and len(spots.xy) > 3:
        by_array = FoundResolution(grid_mpp(spots.xy, spots.grid), "the array of spots")
    elif spots.pitch_um is not None and len(spots.xy) > 1:
        pitch_px = float(np.median(cKDTree(spots.xy).query(spots.xy, k=2)[0][:, 1]))
        if pitch_px <= 0:
            raise ValueError("has spots at one place")
        by_array = FoundResolution(spots.pitch_um / pitch_px, "the distance of neighbouring spots")
    if spots.stated_mpp is None:
        return by_array
    if by_array is not None and abs(by_array.mpp / spots.stated_mpp - 1) > TOLERANCE:
        raise ValueError(
            f"states {spots.stated_mpp:.4g} µm per px, and its array of spots has {by_array.mpp:.4g}: positions are "
            "not those of the full-resolution image, or belong to another run"
        )
    return FoundResolution(spots.stated_mpp, "microns_per_pixel")


def grid_mpp(xy: NDArray[np.float64], grid: Grid) -> float:
    """µm per pixel by least squares of positions (n, 2) on rows and columns of the array, turned in any way.

    Raises `ValueError`, the end of a sentence about the section, where they don't lie on it.
    """
    design = np.column_stack([np.ones(len(xy)), grid.rows_columns])
    if np.linalg.matrix_rank(design) < 3:
        raise ValueError("has spots in one row of the array alone, which proves no resolution")
    found, *_ = np.linalg.lstsq(design, xy, rcond=None)
    steps = np.linalg.norm(found[1:], axis=1)  # px of a row and of a column
    if (steps == 0).any():
        raise ValueError("has spots at one place")
    mpp = np.array(grid.step_um) / steps
    slant = abs(found[1] @ found[2]) / steps.prod()
    off = np.sqrt(((xy - design @ found) ** 2).sum(axis=1).mean())
    if abs(mpp[0] / mpp[1] - 1) > TOLERANCE or slant > _MOST_SLANT or off > _MOST_OFF * steps.max():
        raise ValueError(
            f"has positions that don't lie on the array (rows would have {mpp[0]:.4g} µm per px, columns {mpp[1]:.4g}"
            "): array_row and array_col are swapped, or positions of another run"
        )
    return float(mpp.mean())
