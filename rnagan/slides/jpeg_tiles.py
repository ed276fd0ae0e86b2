"""JPEG tiles of a TIFF as the file holds them, each decoded once: the fast way to a slide's pixels.

OpenSlide stays the reference: `NativeLevel.difference` says how far these pixels are from its own.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

CACHE_BYTES = 64 * 2**20  # decoded tiles kept of a level; a band of rows of reading order needs a third
_MAX_TILE_PX = 2048
_RGB, _YCBCR = 2, 6  # TIFF's PhotometricInterpretation
_SAMPLES = 3  # of the image's own tiles are compared with OpenSlide

Pixels = NDArray[np.uint8]


class NativeLevel:
    """One level of a tiled JPEG TIFF: (height_px, width_px) RGB in tiles of (tile_height_px, tile_width_px)."""

    def __init__(self, descriptor: int, page: tifffile.TiffPage) -> None:
        self.width_px, self.height_px = page.imagewidth, page.imagelength
        self.tile_width_px, self.tile_height_px = page.tilewidth, page.tilelength
        self._descriptor = descriptor
        self._offsets, self._sizes = page.dataoffsets, page.databytecounts
        self._columns = -(-self.width_px // self.tile_width_px)
        # Only TIFF's tags say whether three channels are RGB, and a JPEG decoder sees none of them: Adobe's marker
        # says so in the JPEG. Aperio's RGB tiles, decoded without, are off by 200 grey levels.
        self._is_ycbcr = page.photometric == _YCBCR
        marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([self._is_ycbcr])
        tables = page.jpegtables or b""
        self._header = b"\xff\xd8" + marker + tables[2:-2]
        size = self.tile_width_px * self.tile_height_px * 3
        self._tile = functools.lru_cache(maxsize=max(4, CACHE_BYTES // size))(self._decode)

    def region(self, x: int, y: int, width_px: int, height_px: int) -> Pixels:
        """Pixels (height_px, width_px, 3) uint8 RGB from corner (x, y) of the level, which must lie within it.

        The array may be a cached one: read it, never write into it. `ValueError` where a JPEG tile is broken.
        """
        first_row, last_row = y // self.tile_height_px, (y + height_px - 1) // self.tile_height_px
        first_column, last_column = x // self.tile_width_px, (x + width_px - 1) // self.tile_width_px
        if (first_row, first_column) == (last_row, last_column):
            top, left = y - first_row * self.tile_height_px, x - first_column * self.tile_width_px
            return self._tile(first_row, first_column)[top : top + height_px, left : left + width_px]
        out = np.empty((height_px, width_px, 3), np.uint8)
        for row in range(first_row, last_row + 1):
            top = row * self.tile_height_px - y
            for column in range(first_column, last_column + 1):
                left = column * self.tile_width_px - x
                target = out[max(top, 0) : top + self.tile_height_px, max(left, 0) : left + self.tile_width_px]
                source = self._tile(row, column)[max(-top, 0) :, max(-left, 0) :]
                target[:] = source[: target.shape[0], : target.shape[1]]
        return out

    def stored(self, x: int, y: int, width_px: int, height_px: int) -> bytes | None:
        """The JPEG of that region as the file holds it, where the region is one of its tiles; `region` is its pixels.

        None elsewhere, where it can't be decoded, and where the channels are RGB, which not every decoder understands.
        """
        (row, top), (column, left) = divmod(y, self.tile_height_px), divmod(x, self.tile_width_px)
        whole = (top, left, width_px, height_px) == (0, 0, self.tile_width_px, self.tile_height_px)
        inside = x + width_px <= self.width_px and y + height_px <= self.height_px
        if not (whole and inside and self._is_ycbcr):
            return None
        try:
            self._tile(row, column)  # read before, so in the cache
        except ValueError:
            return None
        return self._read(row, column)

    def difference(self, read: Callable[[int, int, int, int], Pixels]) -> int:
        """Largest difference, in grey levels, from what `read(x, y, width_px, height_px)` gives of a few tiles.

        255 where one can't be decoded.
        """
        largest = 0
        for n in range(1, _SAMPLES + 1):
            share = n / (_SAMPLES + 1)
            width, height = min(self.tile_width_px, self.width_px), min(self.tile_height_px, self.height_px)
            x, y = int((self.width_px - width) * share), int((self.height_px - height) * share)
            try:
                ours = self.region(x, y, width, height)
            except ValueError:
                return 255
            largest = max(largest, int(np.abs(ours.astype(np.int16) - read(x, y, width, height)).max()))
        return largest

    def _read(self, row: int, column: int) -> bytes:
        """A tile as a JPEG of its own: with the tables that TIFF keeps apart, and the marker."""
        number = row * self._columns + column
        return self._header + os.pread(self._descriptor, self._sizes[number], self._offsets[number])[2:]

    def _decode(self, row: int, column: int) -> Pixels:
        # A buffer of the right size, because a broken or hostile header may claim any.
        buffer = np.empty((self.tile_height_px, self.tile_width_px, 3), np.uint8)
        tile = simplejpeg.decode_jpeg(self._read(row, column), buffer=buffer)
        if tile.shape != buffer.shape:
            raise ValueError(f"a JPEG tile of {tile.shape[1]} × {tile.shape[0]} px in a level of other tiles")
        return tile


class NativeLevels:
    """The levels of a TIFF that can be decoded here, by size; empty for any other file. Use it in one process."""

    def __init__(self, path: Path) -> None:
        self._by_size: dict[tuple[int, int], NativeLevel] = {}
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            with tifffile.TiffFile(path) as tiff:
                pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage) and page.is_tiled]
                if any(0 in page.databytecounts for page in pages):
                    return  # OpenSlide blanks what lies over a missing tile in coarser levels too
                for page in pages:
                    if _is_plain_jpeg(page):
                        level = NativeLevel(self._descriptor, page)
                        self._by_size.setdefault((level.width_px, level.height_px), level)
        except (tifffile.TiffFileError, ValueError, TypeError, KeyError, IndexError):
            self._by_size.clear()  # what tifffile can't follow, OpenSlide may: it reads the slide instead

    def get(self, width_px: int, height_px: int) -> NativeLevel | None:
        return self._by_size.get((width_px, height_px))

    def close(self) -> None:
        self._by_size.clear()
        os.close(self._descriptor)


def _is_plain_jpeg(page: tifffile.TiffPage) -> bool:
    """Whether a page is 8-bit RGB or YCbCr in JPEG tiles of sane sizes."""
    if page.compression != tifffile.COMPRESSION.JPEG:
        return False
    rows, columns = -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)
    return (
        page.photometric in (_RGB, _YCBCR)
        and (page.samplesperpixel, page.bitspersample, page.planarconfig) == (3, 8, tifffile.PLANARCONFIG.CONTIG)
        and max(page.tilewidth, page.tilelength) <= _MAX_TILE_PX
        and len(page.dataoffsets) == len(page.databytecounts) == rows * columns
        and max(page.databytecounts) <= 4 * page.tilewidth * page.tilelength + 2**16
    )
