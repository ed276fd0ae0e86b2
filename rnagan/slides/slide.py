"""Reads whole-slide images at a requested resolution; the only module that imports OpenSlide."""

import functools
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from rnagan.data.build_jobs import SourceError
from rnagan.data.image_codec import rgb_pixels
from rnagan.io.zarr_checks import is_zarr
from rnagan.slides.jpeg_tiles import NativeLevel, NativeLevels
from rnagan.slides.plain_images import PlainImage, open_plain
from rnagan.slides.pyramid import Pyramid
from rnagan.slides.resolution import (
    MAX_UPSAMPLING,
    WHOLE_FACTOR_TOLERANCE,
    MissingResolutionError,
    UnusableResolutionError,
    choose_level,
    find_resolution,
)
from rnagan.slides.tiff_pages import TiffPages, UnusablePagesError, read_pages

_READ_PX = 4096  # side of the largest region read in one piece for a thumbnail
_LEAF_PX = 32  # side, in a thumbnail's pixels, of the smallest piece that is given up where a slide is damaged
_MAX_UNREADABLE = 0.5  # share of a thumbnail
_PLAIN_TIFFS = ("aperio", "generic-tiff")  # whose levels are pages that are plain grids of tiles
_PLAIN_LEVELS = (*_PLAIN_TIFFS, "dicom")  # whose levels are as large as their files say, right or wrong
_DARK = 64  # grey level that a thumbnail reaches if its slide uses all of its 16 bits
_WHOLE_PX = 1 / 256  # a position this near to a whole pixel of its level is one: at most a grey level's difference

VERSIONS = {"openslide": openslide.__library_version__, "openslide-python": openslide.__version__}


class DamagedSlideError(SourceError):
    """A slide that opens, with pixels that can't be read."""

    reason = "damaged"


class Thumbnail(NamedTuple):
    """`pixels`: (rows, columns, 3) uint8 RGB, each spanning `pixel_px` level-0 pixels. `unreadable`: (rows, columns)
    bool, where the slide is damaged; the pixels are white there.
    """

    pixels: NDArray[np.uint8]
    pixel_px: float
    unreadable: NDArray[np.bool_]


class Slide:
    """An open slide. Not picklable: open one in each process, in a `with` block.

    `width_px` and `height_px` are those of level 0, positions are level-0 pixels, and `mpp` is µm per level-0 pixel,
    from `mpp_source` (`resolution.find_resolution`). `scanned_from` is the corner, x and y, of the part of level 0 that
    MIRAX and Leica slides say was scanned. A level's factor within `tolerance` of a whole number is taken
    as whole; a slide up to `max_upsampling` coarser than asked is enlarged. A level that doesn't show level 0
    (`pyramid.Pyramid`) isn't read. `plain`: images that OpenSlide doesn't open are read too (plain_images.py).
    Raises `FileNotFoundError` and, with one sentence, `MissingResolutionError`, `UnusableResolutionError`,
    `UnusablePagesError`, `DamagedSlideError`, or `SourceError` for a file that can't be read at all.
    """

    def __init__(
        self,
        path: Path | str,
        fallback_mpp: float | None = None,
        *,
        given_mpp: float | None = None,
        tolerance: float = WHOLE_FACTOR_TOLERANCE,
        max_upsampling: float = MAX_UPSAMPLING,
        native: bool = True,
        plain: bool = False,
    ) -> None:
        self.path = Path(path)
        self._tolerance, self._max_upsampling = tolerance, max_upsampling
        if not self.path.is_file() and not (plain and is_zarr(self.path)):
            raise FileNotFoundError(f"The slide {self.path} does not exist.")
        self._slide = self._open(plain)
        self.width_px, self.height_px = self._slide.dimensions
        self.level_downsamples: tuple[float, ...] = self._slide.level_downsamples
        properties = self._slide.properties
        self.vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "")
        self.scanned_from = tuple(int(properties.get(f"openslide.bounds-{axis}", 0)) for axis in "xy")
        self.quickhash = properties.get(openslide.PROPERTY_NAME_QUICKHASH1, "")
        self._native: NativeLevels | None = None
        self._compared: dict[int, tuple[NativeLevel, int]] = {}
        self._plans: dict[float, tuple[int, float]] = {}
        self._pyramid = Pyramid(self._slide.level_dimensions, self._level_region)
        pages = TiffPages()
        try:
            if self.vendor in _PLAIN_TIFFS or isinstance(self._slide, PlainImage):
                pages = read_pages(self.path, self.width_px, self.height_px)  # of what is no TIFF it says nothing
            if self.vendor in _PLAIN_TIFFS:
                self._native = NativeLevels(self.path) if native else None
            resolution = find_resolution(properties, given_mpp, fallback_mpp, pages.ome_mpp)
        except UnusablePagesError:
            self.close()
            raise
        except UnusableResolutionError as error:
            self.close()
            raise UnusableResolutionError(f"{self.path} {error}") from None
        if resolution is None:
            self.close()
            raise MissingResolutionError(
                f"{self.path} does not say its resolution; give it with --missing-mpp NUMBER (µm per px) or in "
                "column mpp of a table for --cohort, or leave such slides out with --missing-mpp skip."
            )
        self.mpp, self.mpp_source = resolution
        self._bits = pages.bits

    def _open(self, plain: bool) -> "openslide.OpenSlide | PlainImage":
        try:
            return openslide.OpenSlide(self.path)
        except openslide.OpenSlideError as error:
            if not (plain and isinstance(error, openslide.OpenSlideUnsupportedFormatError)):
                message = f"{self.path} is no slide that OpenSlide can read, or is truncated ({error})."
                raise SourceError(message) from None
        try:
            return open_plain(self.path)
        except ValueError as error:
            raise SourceError(f"{self.path} {error}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._slide.close()
        if self._native:
            self._native.close()
            self._native = None
        self._compared.clear()

    def plan(self, mpp: float) -> tuple[int, float]:
        """Level to read for `mpp` and the factor by which to reduce it; see `choose_level`."""
        if mpp not in self._plans:
            levels = list(range(len(self.level_downsamples)))
            while mpp not in self._plans:
                level_mpp = [self.mpp * self.level_downsamples[level] for level in levels]
                try:
                    chosen, factor = choose_level(level_mpp, mpp, self._tolerance, self._max_upsampling)
                except UnusableResolutionError as error:
                    raise UnusableResolutionError(f"{self.path} {error}") from None
                level = levels[chosen]
                if self.vendor not in _PLAIN_LEVELS or self._pyramid.shows_level_0(level):
                    self._plans[mpp] = level, factor
                levels.remove(level)
        return self._plans[mpp]

    def footprint_px(self, mpp: float) -> float:
        """Level-0 pixels that one pixel at `mpp` spans; times `self.mpp` it is the µm per px that is really stored."""
        level, factor = self.plan(mpp)
        return factor * self.level_downsamples[level]

    def decoder(self, mpp: float) -> str:
        """What decodes the tiles at `mpp`: `openslide`, or `native` and how far that was seen to be from OpenSlide."""
        level, _ = self.plan(mpp)
        if self._native_level(level) is None:
            return "openslide"
        difference = self._compared[level][1]
        return "native, equal to openslide" if not difference else "native, within 1 grey level of openslide"

    def read(self, x: int, y: int, size_px: int, mpp: float) -> NDArray[np.uint8]:
        """The square of `size_px` pixels at `mpp` whose corner is (x, y) at level 0: (size_px, size_px, 3) uint8 RGB.

        What lies outside of the slide or was never scanned is white. The array may be a cached one: don't write to it.
        """
        level, factor = self.plan(mpp)
        span = size_px * factor
        whole = factor == round(factor)
        region_px = round(span) if whole else int(np.ceil(span))
        region = self._region(x, y, level, region_px)
        if region_px == size_px:
            return region
        image = Image.fromarray(region)
        if whole:
            return np.asarray(image.reduce(round(factor)))
        # An average over areas is exact for a whole factor; for others its blur would beat across the tile.
        return np.asarray(image.resize((size_px, size_px), Image.Resampling.HAMMING, box=(0, 0, span, span)))

    def stored_jpeg(self, x: int, y: int, size_px: int, mpp: float) -> bytes | None:
        """The JPEG that the slide itself holds of what `read` gives, where there is one: the same pixels."""
        level, factor = self.plan(mpp)
        native = self._native_level(level) if factor == 1 else None
        if native is None:
            return None
        place = self._whole_place(x, y, level)
        return place and native.stored(*place, size_px, size_px)

    def thumbnail(self, mpp: float) -> Thumbnail:
        """The whole slide at `mpp` (or at level 0 where that is coarser), read in pieces.

        `DamagedSlideError` where most of it can't be read; `UnusablePagesError` where its 16 bits aren't all used.
        """
        mpp = max(mpp, self.mpp)
        pixel_px = self.footprint_px(mpp)
        piece = max(1, int(_READ_PX / self.plan(mpp)[1]))
        rows, columns = int(np.ceil(self.height_px / pixel_px)), int(np.ceil(self.width_px / pixel_px))
        piece = min(piece, max(rows, columns))
        thumbnail = Thumbnail(np.empty((rows, columns, 3), np.uint8), pixel_px, np.zeros((rows, columns), np.bool_))
        for top in range(0, rows, piece):
            for left in range(0, columns, piece):
                self._fill(thumbnail, mpp, top, left, piece)
        if self._bits > 8 and thumbnail.pixels[~thumbnail.unreadable].max(initial=0) < _DARK:
            raise UnusablePagesError(f"{self.path} has {self._bits} bits a channel and doesn't use all; scale it to 8.")
        return thumbnail

    def _fill(self, thumbnail: Thumbnail, mpp: float, top: int, left: int, side: int) -> None:
        """Read a square of a thumbnail; where that can't be done, quarters of it, down to what is too small."""
        place = np.s_[top : top + side, left : left + side]
        target = thumbnail.pixels[place]
        try:
            read = self.read(round(left * thumbnail.pixel_px), round(top * thumbnail.pixel_px), side, mpp)
            target[:] = read[: target.shape[0], : target.shape[1]]
        except DamagedSlideError:
            if side > _LEAF_PX:
                half = -(-side // 2)
                for y in (top, top + half):
                    for x in (left, left + half):
                        if y < thumbnail.pixels.shape[0] and x < thumbnail.pixels.shape[1]:
                            self._fill(thumbnail, mpp, y, x, half)
                return
            target[:], thumbnail.unreadable[place] = 255, True
            if thumbnail.unreadable.mean() > _MAX_UNREADABLE:
                raise

    def _region(self, x: int, y: int, level: int, size_px: int) -> NDArray[np.uint8]:
        """A square of a level whose corner is (x, y) at level 0: natively where that gives OpenSlide's pixels."""
        native, place = self._native_level(level), self._whole_place(x, y, level)
        if native is not None and place is not None:
            column, row = place
            width, height = min(size_px, native.width_px - column), min(size_px, native.height_px - row)
            if min(width, height) > 0:
                try:
                    pixels = native.region(column, row, width, height)
                except ValueError:  # OpenSlide says whether, and where, the slide is damaged
                    return self._openslide_region(x, y, level, size_px, size_px)
                if (height, width) == (size_px, size_px):
                    return pixels
                padded = np.full((size_px, size_px, 3), 255, np.uint8)
                padded[:height, :width] = pixels
                return padded
        return self._openslide_region(x, y, level, size_px, size_px)

    def _whole_place(self, x: int, y: int, level: int) -> tuple[int, int] | None:
        """Column and row of a level at (x, y) of level 0; None between pixels, where OpenSlide blends, and outside."""
        column, row = (position / self.level_downsamples[level] for position in (x, y))
        nearest = round(column), round(row)
        if max(abs(column - nearest[0]), abs(row - nearest[1])) >= _WHOLE_PX or min(nearest) < 0:
            return None
        return nearest

    def _native_level(self, level: int) -> NativeLevel | None:
        """The level's own tiles, where its pixels are OpenSlide's to a grey level (decoders may round differently)."""
        if self._native is None:
            return None
        if level not in self._compared:
            native = self._native.get(*self._slide.level_dimensions[level])
            if native is None:
                return None
            try:
                difference = native.difference(functools.partial(self._level_region, level))
            except DamagedSlideError:  # where that is damaged, nothing was learnt
                difference = 255
            self._compared[level] = native, difference
        native, difference = self._compared[level]
        return native if difference <= 1 else None

    def _level_region(self, level: int, x: int, y: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """OpenSlide's pixels from corner (x, y) of a level."""
        downsample = self.level_downsamples[level]
        return self._openslide_region(round(x * downsample), round(y * downsample), level, width_px, height_px)

    def _openslide_region(self, x: int, y: int, level: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        if isinstance(self._slide, PlainImage):
            try:
                return rgb_pixels(self._slide.read_region((x, y), level, (width_px, height_px)))
            except ValueError as error:
                raise DamagedSlideError(f"{self.path} is damaged at x {x}, y {y} ({error}).") from None
        try:
            image = self._slide.read_region((x, y), level, (width_px, height_px))
        except openslide.OpenSlideError as error:
            self._slide.close()  # after an error it reads nothing more
            self._slide = openslide.OpenSlide(self.path)
            raise DamagedSlideError(f"{self.path} is damaged at x {x}, y {y} ({error}).") from None
        return rgb_pixels(image)
