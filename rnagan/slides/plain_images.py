"""Images that OpenSlide doesn't open, as the full-resolution images of spatial data often are: a JPEG or PNG, and a
TIFF in strips, which is read in parts."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from rnagan.data.image_codec import rgb_pixels
from rnagan.io.bounds import MAX_PIXELS
from rnagan.io.images import open_image
from rnagan.io.zarr_checks import check_codecs, is_zarr

_CACHE_BYTES = 256 * 2**20  # decoded strips or tiles of a TIFF
_RGB, _YCBCR = 2, 6  # TIFF's PhotometricInterpretation
_UNITS = {2: "inch", 3: "centimeter"}  # TIFF's ResolutionUnit, in OpenSlide's words
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BROKEN = (tifffile.TiffFileError, OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError)
_TILED = "vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --Q 95"


class PlainImage:
    """An image of one level, with what `slide.Slide` asks of OpenSlide. `properties` are by OpenSlide's names."""

    level_downsamples = (1.0,)

    def __init__(self, width_px: int, height_px: int, properties: Mapping[str, str] | None = None) -> None:
        self.dimensions = width_px, height_px
        self.level_dimensions = (self.dimensions,)
        self.properties = dict(properties or {})

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """The region of `size` (width, height) px at `location` (x, y); white outside. `ValueError` on damage."""
        (x, y), (width, height) = location, size
        out = np.full((height, width, 3), 255, np.uint8)
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, self.dimensions[0]), min(y + height, self.dimensions[1])
        if left < right and top < bottom:
            self._fill(out[top - y : bottom - y, left - x : right - x], left, top)
        return Image.fromarray(out)

    def close(self) -> None:
        """Nothing is open."""

    def _fill(self, out: NDArray[np.uint8], left: int, top: int) -> None:
        raise NotImplementedError


class Picture(PlainImage):
    """Pixels (H, W, 3) uint8 RGB in memory, or mapped from a file."""

    def __init__(self, pixels: NDArray[np.uint8], properties: Mapping[str, str] | None = None) -> None:
        super().__init__(pixels.shape[1], pixels.shape[0], properties)
        self._pixels = pixels

    def _fill(self, out: NDArray[np.uint8], left: int, top: int) -> None:
        out[:] = self._pixels[top : top + out.shape[0], left : left + out.shape[1], :3]


class PartedTiff(PlainImage):
    """The first page of a TIFF of 8-bit RGB, whose strips or tiles are decoded as they are needed."""

    def __init__(self, tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
        super().__init__(page.imagewidth, page.imagelength, _resolution(page))
        self._tiff, self._page = tiff, page
        tiled = page.is_tiled
        self._part_width = page.tilewidth if tiled else page.imagewidth
        self._part_height = page.tilelength if tiled else min(page.rowsperstrip, page.imagelength)
        self._across = -(-page.imagewidth // self._part_width)
        size = self._part_width * self._part_height * page.samplesperpixel
        self._part = functools.lru_cache(maxsize=max(2, _CACHE_BYTES // size))(self._decode)

    def close(self) -> None:
        self._part.cache_clear()
        self._tiff.close()

    def _fill(self, out: NDArray[np.uint8], left: int, top: int) -> None:
        bottom, right = top + out.shape[0], left + out.shape[1]
        for row in range(top // self._part_height, -(-bottom // self._part_height)):
            for column in range(left // self._part_width, -(-right // self._part_width)):
                y, x = row * self._part_height, column * self._part_width
                part = self._part(row * self._across + column)[
                    max(top - y, 0) : bottom - y, max(left - x, 0) : right - x
                ]
                target = out[max(y - top, 0) :, max(x - left, 0) :]
                target[: part.shape[0], : part.shape[1]] = part

    def _decode(self, number: int) -> NDArray[np.uint8]:
        page, handle = self._page, self._tiff.filehandle
        try:
            handle.seek(page.dataoffsets[number])
            data = handle.read(page.databytecounts[number])
            pixels = page.decode(data, number, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        except _BROKEN as error:
            raise ValueError(f"part {number} of the TIFF can't be decoded: {error}") from None
        if pixels is None:
            raise ValueError(f"part {number} of the TIFF is missing")
        return np.asarray(pixels).reshape(-1, self._part_width, page.samplesperpixel)[..., :3]


class ZarrImage(PlainImage):
    """The full resolution of an OME-Zarr image, (channels, H, W) uint8 whose first three are red, green and blue."""

    def __init__(self, array: Any) -> None:
        super().__init__(array.shape[2], array.shape[1])
        self._array = array

    def _fill(self, out: NDArray[np.uint8], left: int, top: int) -> None:
        try:
            part = self._array[:3, top : top + out.shape[0], left : left + out.shape[1]]
        except _BROKEN as error:
            raise ValueError(f"its part at x {left}, y {top} can't be decoded: {error}") from None
        out[:] = np.moveaxis(np.asarray(part), 0, 2)


def open_plain(path: Path) -> PlainImage:
    """Open a JPEG, PNG, BMP, WebP, an OME-Zarr image, or a TIFF that OpenSlide refuses. `ValueError`, the end of a
    sentence about the file, where it can't be read, or only as a whole and is larger than MAX_PIXELS."""
    if is_zarr(path):
        return _open_zarr(path)
    with open(path, "rb") as file:
        is_tiff = file.read(4) in _MAGIC
    found = _open_tiff(path) if is_tiff else None
    if found is not None:
        return found
    with open_image(path) as image:
        return Picture(rgb_pixels(image))


def _open_zarr(path: Path) -> PlainImage:
    import zarr

    check_codecs(path)
    try:
        group: Any = zarr.open_group(path, mode="r")
        about = group.attrs.get("ome", group.attrs)["multiscales"][0]["datasets"][0]["path"]
        array: Any = group[about]
        fits = array.ndim == 3 and array.shape[0] in (3, 4) and array.dtype == np.uint8
    except (*_BROKEN, AttributeError) as error:
        raise ValueError(f"is no OME-Zarr image that can be read ({error})".replace("\n", " ")) from None
    if not fits:
        raise ValueError(f"holds {array.dtype} of shape {array.shape}, not 8-bit red, green and blue (3, H, W)")
    return ZarrImage(array)


def _open_tiff(path: Path) -> PlainImage | None:
    """None where the TIFF is of another kind than 8-bit RGB, and Pillow is to read it."""
    try:
        tiff = tifffile.TiffFile(path)
        page = tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        orientation = page.tags.valueof(274, 1)
        plain = (
            page.photometric in (_RGB, _YCBCR)
            and page.samplesperpixel in (3, 4)
            and (page.bitspersample, page.planarconfig) == (8, tifffile.PLANARCONFIG.CONTIG)
        )
        mapped = plain and page.is_memmappable
    except _BROKEN as error:
        raise ValueError(f"is no readable TIFF ({error})".replace("\n", " ")) from None
    if orientation not in (0, 1):
        tiff.close()
        raise ValueError(f"is to be turned or mirrored (TIFF orientation {orientation}); write it anew upright")
    if not plain:
        tiff.close()
        return None
    if mapped:
        pixels = np.memmap(path, np.uint8, "r", page.dataoffsets[0], (*page.shape[:2], page.samplesperpixel))
        properties = _resolution(page)
        tiff.close()
        return Picture(pixels, properties)
    found = PartedTiff(tiff, page)
    if found._part_width * found._part_height > MAX_PIXELS:
        found.close()
        raise ValueError(
            f"is stored in one piece of more than {MAX_PIXELS:,} px; write it in tiles, such as with {_TILED}"
        )
    return found


def _resolution(page: tifffile.TiffPage) -> dict[str, str]:
    """The resolution tags in OpenSlide's words; none where they state nothing."""
    unit = _UNITS.get(int(page.tags.valueof(296, 0) or 0))
    found = {} if unit is None else {"tiff.ResolutionUnit": unit}
    for axis, code in (("X", 282), ("Y", 283)):
        match page.tags.valueof(code):
            case (int() as over, int() as under) if over and under:
                found[f"tiff.{axis}Resolution"] = str(over / under)
    return found
