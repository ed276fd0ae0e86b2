"""Stored images to pixels, and tiles to JPEG; in adopted sets images may be PNG."""

import contextlib
import io
import struct
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

EXTENSIONS = ("jpg", "jpeg", "png")
_PNG = b"\x89PNG\r\n\x1a\n"
_MODES = ("L", "LA", "P", "RGB", "RGBA", "1")  # what a PNG of 8 bits or fewer opens as
_PNG_DEPTH = 24  # byte that holds the bits of a channel: Pillow takes 16 of colour for 8 without a word


def encode_jpeg(tile: NDArray[np.uint8], quality: int) -> bytes:
    """A tile (h, w, 3) uint8 RGB as baseline JPEG without chroma subsampling."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(tile), quality, "RGB", "444")


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """JPEG or PNG bytes to RGB (H, W, 3) uint8; `ValueError` where they are neither, broken, or have 16 bits."""
    if not data.startswith(_PNG):
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    with _open_png(data) as image:
        return np.asarray(image.convert("RGB"))


def decode_into(data: bytes, out: NDArray[np.uint8]) -> None:
    """As `decode_image`, into `out` (H, W, 3); an image of another size raises `ValueError` too."""
    if not data.startswith(_PNG):
        try:
            height, width, _ = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out).shape
        except ValueError as error:
            if "buffer is too small" not in str(error):
                raise
            width, height = image_size(data)
    else:
        image = decode_image(data)
        height, width, _ = image.shape
        if image.shape == out.shape:
            out[:] = image
    if (height, width) != out.shape[:2]:
        raise ValueError(f"it has {width} × {height} px, not {out.shape[1]} × {out.shape[0]}")


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height that the header says, in px."""
    if not data.startswith(_PNG):
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ("CMYK", "YCCK"):
            raise ValueError(f"a JPEG in {colours}; only RGB and grey are read")
        return width, height
    with _open_png(data) as image:
        return image.size


@contextlib.contextmanager
def _open_png(data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in _MODES:
                raise ValueError(f"a PNG of mode {image.mode}; only 8 bits a channel are read")
            if data[_PNG_DEPTH] > 8:
                raise ValueError(f"a PNG of {data[_PNG_DEPTH]} bits a channel; only 8 bits a channel are read")
            yield image
    except (OSError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"no readable PNG ({error})") from None


def image_problem(tile_px: int | None, data: bytes) -> str | None:
    """What keeps an image from being a tile of `tile_px` (None: of any size), or None. Decodes it."""
    try:
        height, width, _ = decode_image(data).shape
    except ValueError as error:
        return f"which can't be decoded ({error})"
    if tile_px and (height, width) != (tile_px, tile_px):
        return f"which has {width} × {height} px, not {tile_px}"
    return None
