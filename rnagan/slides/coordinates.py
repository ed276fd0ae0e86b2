"""Tile positions that TRIDENT or CLAM found (.h5), instead of our own tissue mask."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from rnagan.cohort.slide_ids import shard_name
from rnagan.data.build_jobs import SourceError
from rnagan.io.hdf5_checks import check_hdf5

_SUFFIX = "_patches"  # TRIDENT's SLIDE_patches.h5; CLAM writes SLIDE.h5
_MOST = 50_000_000  # positions a file may claim


class CoordinatesError(SourceError):
    """A slide whose coordinates file is missing, broken or made for other tiles."""

    reason = "coordinates"


def find_coordinates(folder: Path | str) -> dict[str, Path]:
    """Slide id → file, of all .h5 files in a folder and below it. Two files of one slide are refused."""
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).rglob("*.h5")):
        slide = shard_name(path.stem.removesuffix(_SUFFIX))
        if (other := found.setdefault(slide, path)) != path:
            raise ValueError(f"{other} and {path} both hold coordinates of slide {slide}; keep one.")
    if not found:
        raise FileNotFoundError(f"{folder} holds no .h5 file of TRIDENT or CLAM.")
    return found


def read_coordinates(path: Path, footprint_px: float, tolerance: float) -> NDArray[np.int64]:
    """Level-0 corners (n, 2) int64, x then y, in the file's order, without repeats.

    `footprint_px` is the width of our tile in level-0 pixels; `CoordinatesError` where the file's patches are more
    than `tolerance` (a share) wider or narrower, or where it can't be read.
    """
    try:
        check_hdf5(path)
        with h5py.File(path, "r") as file:
            coordinates = file["coords"]
            if coordinates.ndim != 2 or coordinates.shape[1] != 2 or coordinates.dtype.kind not in "iu":
                raise CoordinatesError(f"{path}: coords must be integers of shape (n, 2), not {coordinates.shape}.")
            if len(coordinates) > _MOST:
                raise CoordinatesError(f"{path} claims {len(coordinates):,} tiles; that is no slide.")
            attributes, positions = dict(coordinates.attrs), coordinates[:].astype(np.int64)
    except ValueError as error:
        raise error if isinstance(error, CoordinatesError) else CoordinatesError(str(error)) from None
    except (OSError, KeyError, AttributeError) as error:
        raise CoordinatesError(f"{path} is no readable .h5 file with coords ({error}).") from None
    width_px = _width_px(attributes)
    if width_px is None:
        raise CoordinatesError(f"{path} doesn't say how wide its patches are (patch_size_level0, or patch_size).")
    if abs(width_px / footprint_px - 1) > tolerance:
        raise CoordinatesError(
            f"{path} has patches of {width_px:g} level-0 px, and a tile here spans {footprint_px:g}; "
            "choose --tile-px and --mpp to match."
        )
    _, first = np.unique(positions, axis=0, return_index=True)
    return positions[np.sort(first)]


def _width_px(attributes: dict) -> float | None:
    """Width of a patch at level 0: TRIDENT says it; CLAM gives pixels of a level and the level's downsample."""
    if "patch_size_level0" in attributes:
        return float(attributes["patch_size_level0"])
    if "patch_size" in attributes:
        downsample = np.ravel(attributes.get("downsample", 1.0))[0]
        return float(attributes["patch_size"]) * float(downsample)
    return None
