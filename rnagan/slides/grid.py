"""Where the tiles of a slide may lie: on a grid over its tissue, or where a coordinates file says."""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from rnagan.config.tiling import TilingConfig
from rnagan.slides.coordinates import CoordinatesError, read_coordinates
from rnagan.slides.masks import MaskError, read_mask
from rnagan.slides.slide import Slide
from rnagan.slides.sources import SlideSource
from rnagan.slides.tissue import TissueMasks, find_tissue

STRIP_PX = 8192  # width, at the level read, of a strip that is read row by row; it bounds what must be cached


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Every tile position that was considered, and the thumbnail that decided.

    `positions` (n, 2) int64: level-0 corners, x then y. `outcomes` (n,): empty where the tile may be kept, else why it
    is not: background, ink, outside. `thumbnail` (rows, columns, 3) uint8 RGB, one pixel spanning `pixel_px`.
    `warnings`: what is doubtful, a sentence each.
    """

    positions: NDArray[np.int64]
    outcomes: NDArray[np.object_]
    thumbnail: NDArray[np.uint8]
    pixel_px: float
    masks: TissueMasks
    warnings: tuple[str, ...] = ()

    @property
    def usable(self) -> NDArray[np.int64]:
        """Rows that may become tiles."""
        return np.flatnonzero(self.outcomes == "")


def find_candidates(slide: Slide, source: SlideSource, config: TilingConfig) -> Candidates:
    """Tile positions of an open slide by its tissue mask, which may be the source's, or by its coordinates file."""
    footprint_px = config.tile_px * slide.footprint_px(config.mpp)
    thumbnail, pixel_px, unreadable = slide.thumbnail(config.thumbnail_mpp)
    if source.needs_coordinates:
        if source.coordinates is None:
            raise CoordinatesError(f"{source.path} has no .h5 file in the coordinates folder.")
        positions = read_coordinates(source.coordinates, footprint_px, config.mpp_tolerance)
        ends = positions + footprint_px
        inside = (positions >= 0).all(axis=1) & (ends[:, 0] <= slide.width_px) & (ends[:, 1] <= slide.height_px)
        nothing = np.zeros(thumbnail.shape[:2], np.bool_)
        return Candidates(
            positions, first_reasons({"outside": ~inside}), thumbnail, pixel_px, TissueMasks(nothing, nothing)
        )
    grid = Grid.cover(slide.width_px, slide.height_px, footprint_px)
    masks = find_tissue(thumbnail, pixel_px * slide.mpp, config)
    warnings: tuple[str, ...] = ()
    if source.mask is not None:
        tissue, warnings = read_mask(source.mask, slide, pixel_px, masks.tissue)
        masks = TissueMasks(tissue & ~masks.ink, masks.ink)
    elif source.needs_mask:
        raise MaskError(
            f"{source.path} has no mask called {source.slide}.geojson or .png; make one, or take our own mask for such "
            "slides with --missing-mask otsu."
        )
    else:  # tiles there say whether they can be read
        masks = TissueMasks(masks.tissue | unreadable & ~masks.ink, masks.ink)
    background = background_share(masks.tissue, pixel_px, grid) > config.max_background
    instead_of_ink = background_share(masks.tissue | masks.ink, pixel_px, grid) <= config.max_background
    inked = 1 - background_share(masks.ink, pixel_px, grid) > config.max_ink
    reasons = first_reasons({"background": background, "ink": inked & instead_of_ink})
    return Candidates(grid.positions(), reasons, thumbnail, pixel_px, masks, warnings)


def reading_order(positions: NDArray[np.int64], strip_px: float) -> NDArray[np.int64]:
    """Order in which to read tiles at level-0 `positions` (n, 2): row by row, in strips `strip_px` wide, left to right.

    Neighbours share native tiles; a strip's row of those fits the reader's cache, whatever the slide's width.
    """
    x, y = positions.T
    return np.lexsort((x, y, x // max(1, int(strip_px))))


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


def first_reasons(masks: dict[str, NDArray[np.bool_]]) -> NDArray[np.object_]:
    """One word for each position: that of the last mask that is true there, or none."""
    outcomes = np.full(len(next(iter(masks.values()))), "", object)
    for reason, mask in masks.items():
        outcomes[mask] = reason
    return outcomes


def background_share_at(
    mask: NDArray[np.bool_], pixel_px: float, corners: NDArray[np.float64], side_px: float
) -> NDArray[np.float64]:
    """As `background_share`, of squares of `side_px` level-0 pixels anywhere, by their `corners` (n, 2), x then y: (n,)
    in 0 … 1. What lies outside of the mask is background."""
    table = np.pad(mask.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    left, top = corners.T / pixel_px
    side = side_px / pixel_px

    def sums(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        return map_coordinates(table, [y, x], order=1, mode="nearest")

    tissue = sums(top + side, left + side) - sums(top, left + side) - sums(top + side, left) + sums(top, left)
    return np.clip(1 - tissue / side**2, 0, 1)


def _at(table: NDArray[np.float64], where: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of `table` at fractional row numbers, by linear interpolation."""
    where = np.minimum(where, len(table) - 1)
    low = np.minimum(where.astype(np.int64), len(table) - 2)
    share = (where - low)[:, None]
    return table[low] * (1 - share) + table[low + 1] * share
