"""Reads whole-slide images at a requested resolution; the only module that imports OpenSlide."""

from pathlib import Path
from typing import Self

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

WHOLE_FACTOR_TOLERANCE = 0.02  # a reduction this near to a whole number is taken as whole
UPSAMPLING_TOLERANCE = 0.05  # how much coarser than asked a slide may be
_READ_PX = 4096  # side of the largest region read in one piece for a thumbnail

VERSIONS = {"openslide": openslide.__library_version__, "openslide-python": openslide.__version__}


class MissingResolutionError(ValueError):
    """A slide that doesn't say its resolution."""


class Slide:
    """An open slide. Not picklable: open one in each process, in a `with` block.

    `width_px` and `height_px` are those of level 0, positions are level-0 pixels, and `mpp` is µm per level-0 pixel:
    what the file says, else `fallback_mpp`. Raises `FileNotFoundError`, `ValueError` for a file that can't be read,
    and `MissingResolutionError`, each with one sentence.
    """

    def __init__(self, path: Path | str, fallback_mpp: float | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"The slide {self.path} does not exist.")
        try:
            self._slide = openslide.OpenSlide(self.path)
        except openslide.OpenSlideError as error:
            raise ValueError(f"{self.path} is no slide that OpenSlide can read, or is truncated ({error}).") from None
        self.width_px, self.height_px = self._slide.dimensions
        properties = self._slide.properties
        self.vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "")
        self.quickhash = properties.get(openslide.PROPERTY_NAME_QUICKHASH1, "")
        try:
            self.mpp = self._stated_mpp() or fallback_mpp or 0.0
            if not self.mpp:
                raise MissingResolutionError(
                    f"{self.path} does not say its resolution; give it with --missing-mpp NUMBER (µm per px), "
                    "or leave such slides out with --missing-mpp skip."
                )
        except ValueError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._slide.close()

    def _stated_mpp(self) -> float | None:
        properties = self._slide.properties
        if openslide.PROPERTY_NAME_MPP_X not in properties or openslide.PROPERTY_NAME_MPP_Y not in properties:
            return None
        x, y = float(properties[openslide.PROPERTY_NAME_MPP_X]), float(properties[openslide.PROPERTY_NAME_MPP_Y])
        if abs(x / y - 1) > WHOLE_FACTOR_TOLERANCE:
            raise ValueError(f"{self.path} has pixels of {x:g} × {y:g} µm; only square ones are read.")
        return (x + y) / 2

    def plan(self, mpp: float) -> tuple[int, float]:
        """Level to read for `mpp` and the factor by which to reduce it; see `choose_level`."""
        try:
            return choose_level([self.mpp * downsample for downsample in self._slide.level_downsamples], mpp)
        except ValueError as error:
            raise ValueError(f"{self.path} {error}") from None

    def footprint_px(self, mpp: float) -> float:
        """Level-0 pixels that one pixel at `mpp` spans; times `self.mpp` it is the µm per px that is really stored."""
        level, factor = self.plan(mpp)
        return factor * self._slide.level_downsamples[level]

    def read(self, x: int, y: int, size_px: int, mpp: float) -> NDArray[np.uint8]:
        """The square of `size_px` pixels at `mpp` whose corner is (x, y) at level 0: (size_px, size_px, 3) uint8 RGB.

        What lies outside of the slide or was never scanned is white.
        """
        level, factor = self.plan(mpp)
        span = size_px * factor
        whole = factor == round(factor)
        region_px = round(span) if whole else int(np.ceil(span))
        image = self._read_region(x, y, level, region_px)
        if region_px != size_px:
            # An average over areas is exact for a whole factor; for others its blur would beat across the tile.
            resampling = Image.Resampling.BOX if whole else Image.Resampling.HAMMING
            image = image.resize((size_px, size_px), resampling, box=(0, 0, span, span))
        return np.asarray(image)

    def _read_region(self, x: int, y: int, level: int, size_px: int) -> Image.Image:
        try:
            image = self._slide.read_region((x, y), level, (size_px, size_px))
        except openslide.OpenSlideError as error:
            raise ValueError(f"{self.path} is damaged at x {x}, y {y} ({error}).") from None
        if np.asarray(image)[..., 3].min() < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")

    def thumbnail(self, mpp: float) -> tuple[NDArray[np.uint8], float]:
        """The whole slide at `mpp` (or at level 0 where that is coarser), read in pieces.

        Returns (rows, columns, 3) uint8 RGB and the level-0 pixels that one thumbnail pixel spans.
        """
        mpp = max(mpp, self.mpp)
        pixel_px = self.footprint_px(mpp)
        piece = max(1, int(_READ_PX / self.plan(mpp)[1]))
        rows, columns = int(np.ceil(self.height_px / pixel_px)), int(np.ceil(self.width_px / pixel_px))
        piece = min(piece, max(rows, columns))
        thumbnail = np.empty((rows, columns, 3), np.uint8)
        for top in range(0, rows, piece):
            for left in range(0, columns, piece):
                target = thumbnail[top : top + piece, left : left + piece]
                read = self.read(round(left * pixel_px), round(top * pixel_px), piece, mpp)
                target[:] = read[: target.shape[0], : target.shape[1]]
        return thumbnail, pixel_px


def choose_level(level_mpp: list[float], mpp: float) -> tuple[int, float]:
    """The coarsest level that is at or finer than `mpp`, and the factor mpp / level_mpp by which to reduce it.

    A factor within 2 % of a whole number becomes that number: scanners' 0.2508 or 0.4942 µm are read as 0.25 and 0.5,
    since resampling by a percent blurs a tile in stripes. `ValueError` (the end of a sentence about the slide)
    where even the finest level is over 5 % coarser than asked.
    """
    factors = [mpp / level for level in level_mpp]
    if factors[0] < 1 / (1 + UPSAMPLING_TOLERANCE):
        raise ValueError(
            f"has {level_mpp[0]:.4g} µm per px at best, coarser than the {mpp:g} that is asked; choose a larger --mpp."
        )
    fine_enough = [level for level, factor in enumerate(factors) if factor >= 1 - WHOLE_FACTOR_TOLERANCE]
    level = max(fine_enough, key=lambda level: level_mpp[level], default=0)
    factor, whole = factors[level], max(1, round(factors[level]))
    return level, float(whole) if abs(factor / whole - 1) <= WHOLE_FACTOR_TOLERANCE else factor
