"""Where tiles lie: a grid without overlap over level 0, and the share of background in each cell. Pure arithmetic."""

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Grid:
    """Whole tiles of `pitch_px` level-0 pixels, from the top left corner; a remainder at the far edges is left."""

    rows: int
    columns: int
    pitch_px: float

    @classmethod
    def cover(cls, width_px: int, height_px: int, pitch_px: float) -> "Grid":
        """The grid over a slide of that many level-0 pixels."""
        return cls(int(height_px / pitch_px), int(width_px / pitch_px), pitch_px)

    def positions(self) -> NDArray[np.int64]:
        """Level-0 corner of each tile, row by row: (rows · columns, 2) int64, x then y."""
        y, x = np.mgrid[: self.rows, : self.columns]
        return np.rint(np.stack([x.ravel(), y.ravel()], axis=1) * self.pitch_px).astype(np.int64)


def background_share(mask: NDArray[np.bool_], pixel_px: float, grid: Grid) -> NDArray[np.float64]:
    """Share of each tile's area that is not tissue, in the order of `grid.positions()`: (rows · columns,) in 0 … 1.

    `mask` is true on tissue and one of its pixels spans `pixel_px` level-0 pixels. Pixels that a tile cuts count by
    the area inside: the summed-area table is interpolated at the tiles' edges.
    """
    table = np.pad(mask.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    cell = grid.pitch_px / pixel_px
    corners = _at(_at(table, cell * np.arange(grid.rows + 1.0)).T, cell * np.arange(grid.columns + 1.0)).T
    tissue = np.diff(np.diff(corners, axis=0), axis=1) / cell**2
    return np.clip(1 - tissue, 0, 1).ravel()


def _at(table: NDArray[np.float64], where: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of `table` at fractional row numbers, by linear interpolation."""
    where = np.minimum(where, len(table) - 1)
    low = np.minimum(where.astype(np.int64), len(table) - 2)
    share = (where - low)[:, None]
    return table[low] * (1 - share) + table[low + 1] * share
