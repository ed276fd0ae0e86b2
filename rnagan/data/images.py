"""Stored images to pixels: JPEG, and in adopted sets PNG."""

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

EXTENSIONS = ("jpg", "jpeg", "png")
_PNG = b"\x89PNG\r\n\x1a\n"
_MODES = ("L", "LA", "P", "RGB", "RGBA", "1")  # what a PNG of 8 bits or fewer opens as


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """JPEG or PNG bytes to RGB (H, W, 3) uint8; `ValueError` where they are neither, broken, or have 16 bits."""
    if not data.startswith(_PNG):
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in _MODES:
                raise ValueError(f"a PNG of mode {image.mode}; only 8 bits a channel are read")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"no readable PNG ({error})") from None


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height that the header says, in px."""
    if not data.startswith(_PNG):
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        return width, height
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in _MODES:
                raise ValueError(f"a PNG of mode {image.mode}; only 8 bits a channel are read")
            return image.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
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
