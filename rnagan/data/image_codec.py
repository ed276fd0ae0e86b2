"""Images of any kind to the pixels of tiles, and tiles to JPEG; in adopted sets images may be PNG."""

import contextlib
import io
import struct
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from rnagan.io.images import check_pixels, open_image

EXTENSIONS = ("jpg", "jpeg", "png")
_PNG = b"\x89PNG\r\n\x1a\n"
_MODES = ("L", "LA", "P", "RGB", "RGBA", "1")  # what a PNG of 8 bits or fewer opens as
_PNG_SIZE = 16  # byte at which width and height begin
_PNG_DEPTH = 24  # byte that holds the bits of a channel: Pillow takes 16 of colour for 8 without a word
_WITH_PREVIEWS = ("MPO", "PSD")  # whose first picture is the whole one
_SUBFILE_TYPE, _REDUCED = 254, 1  # TIFF's tag, and its bit of a copy with fewer pixels
_PHOTOMETRIC, _WHITE_AT_0 = 262, 0  # TIFF's tag, and the value that inverts grey
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_EXIF_WITHIN = 2**16  # bytes from the beginning of a JPEG
_DARK = 64  # grey level that some pixel of a tile of 16 bits reaches, if it uses them all


def encode_jpeg(tile: NDArray[np.uint8], quality: int) -> bytes:
    """A tile (h, w, 3) uint8 RGB as baseline JPEG without chroma subsampling."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(tile), quality, "RGB", "444")


def rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of any kind to (H, W, 3) uint8 RGB: the one way for slides, ready-made tiles and adopted sets.

    It is turned as its orientation tag says; transparency lies on white; 16 bits a channel are scaled to 8.
    `ValueError` (the end of a sentence about the image) where the range of its values isn't known: float and 32-bit
    pixels, and 16 bits that are nowhere brighter than a quarter, as those of cameras with 10, 12 or 14 bits are; and
    where a file holds several pictures, such as the planes of a stack (previews and reduced copies don't count).
    """
    if (pictures := _count_pictures(image)) > 1:
        raise ValueError(
            f"holds {pictures} pictures (pages or frames), and it isn't clear which is meant; save one alone"
        )
    deep, inverted = has_16_bits(image), image.mode.startswith("I;16") and _is_white_at_0(image)
    if orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        kind = "32-bit floats" if image.mode == "F" else "signed or 32-bit integers"
        raise ValueError(f"has pixels of {kind}, whose white isn't known; save it with 8 bits a channel")
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        pixels = np.stack([255 - grey if inverted else grey] * 3, axis=2).astype(np.uint8)
    else:
        if image.has_transparency_data:
            image = image if image.mode == "RGBA" else image.convert("RGBA")
            if np.asarray(image.getchannel("A")).min() < 255:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        pixels = np.asarray(image.convert("RGB"))
    if deep and pixels.max() < _DARK:
        raise ValueError("has 16 bits a channel and uses 14 or fewer of them; save it with 8 bits a channel")
    return pixels


def _count_pictures(image: Image.Image) -> int:
    """Pages or frames of an open file, but for previews: a camera's in JPEG, layers, and TIFF's reduced copies."""
    try:
        frames = 1 if image.format in _WITH_PREVIEWS else getattr(image, "n_frames", 1)
        if frames == 1 or image.format != "TIFF":
            return frames
        whole = 0
        for frame in range(frames):
            image.seek(frame)
            whole += not getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0) & _REDUCED
        image.seek(0)
    except (OSError, EOFError, SyntaxError, TypeError, KeyError, struct.error):
        raise ValueError("has a broken page after its first; save the one that is meant alone") from None
    return whole


def has_16_bits(image: Image.Image) -> bool:
    """Whether the file has; Pillow opens those of colour with 8 bits. Ask before the pixels are read."""
    modes = [
        arg  # JPEG 2000 has numbers there too, as that of the open file
        for tile in getattr(image, "tile", [])
        for arg in (tile.args if isinstance(tile.args, tuple) else (tile.args,))
        if isinstance(arg, str)
    ]
    return image.mode.startswith("I;16") or any("16" in mode for mode in modes)


def _is_white_at_0(image: Image.Image) -> bool:
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_AT_0


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """JPEG or PNG bytes to RGB (H, W, 3) uint8; `ValueError` where they are neither, broken, or have 16 bits."""
    if _is_plain_jpeg(data):
        _check_size(data)
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    with _opened(data) as image:
        return rgb_pixels(image)


def decode_into(data: bytes, out: NDArray[np.uint8]) -> None:
    """As `decode_image`, into `out` (H, W, 3); an image of another size raises `ValueError` too."""
    if _is_plain_jpeg(data):
        _check_size(data)  # the decoder counts a buffer in 32 bits, and would write beyond its end
        try:
            height, width, _ = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out).shape
        except ValueError as error:
            if "buffer is too small" not in str(error):
                raise
            width, height = image_size(data)
    else:
        width, height = image_size(data)
        if (height, width) == out.shape[:2]:
            out[:] = decode_image(data)
    if (height, width) != out.shape[:2]:
        raise ValueError(f"it has {width} × {height} px, not {out.shape[1]} × {out.shape[0]}")


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height that the header says, in px, turned as the orientation tag says."""
    if not data.startswith(_PNG):
        height, width, colours, _ = _jpeg_header(data)
        check_pixels(width, height)
        if colours in ("CMYK", "YCCK"):
            raise ValueError(f"is a JPEG in {colours}; only RGB and grey are read")
        if _is_plain_jpeg(data):
            return width, height
    with _opened(data) as image:
        return image.size[::-1] if orientation(image) in _ON_ITS_SIDE else image.size


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether the fast decoder's pixels are right: no PNG, and no JPEG that a tag of its says to turn."""
    if data.startswith(_PNG):
        return False
    if data.find(b"Exif\0\0", 0, _EXIF_WITHIN) < 0:
        return True
    with _opened(data) as image:
        return orientation(image) == 1


def orientation(image: Image.Image) -> int:
    """1 … 8 of the EXIF tag; 1 where there is none, or nonsense."""
    stated = image.getexif().get(ExifTags.Base.Orientation, 1)
    return stated if stated in range(1, 9) else 1


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A PNG of 8 bits or fewer, or a JPEG."""
    kind = "PNG" if data.startswith(_PNG) else "JPEG"
    _check_size(data)
    with open_image(io.BytesIO(data), (kind,)) as image:
        if kind == "PNG" and image.mode not in _MODES:
            raise ValueError(f"is a PNG of mode {image.mode}; only 8 bits a channel are read")
        if kind == "PNG" and data[_PNG_DEPTH] > 8:
            raise ValueError(f"is a PNG of {data[_PNG_DEPTH]} bits a channel; only 8 bits a channel are read")
        yield image


def _check_size(data: bytes) -> None:
    """Refuse a PNG or JPEG whose header asks for more than MAX_PIXELS, with `ValueError`."""
    if data.startswith(_PNG):
        width, height = struct.unpack_from(">II", data.ljust(_PNG_SIZE + 8, b"\0"), _PNG_SIZE)
    else:
        height, width, *_ = _jpeg_header(data)
    check_pixels(width, height)


def _jpeg_header(data: bytes) -> tuple[int, int, str, str]:
    """Height, width, colours and subsampling of a JPEG."""
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise ValueError(f"is no readable JPEG ({error})") from None


def image_problem(tile_px: int | None, data: bytes) -> str | None:
    """What keeps an image from being a tile of `tile_px` (None: of any size), or None. Decodes it."""
    try:
        height, width, _ = decode_image(data).shape
    except ValueError as error:
        return f"which can't be decoded ({error})"
    if tile_px and (height, width) != (tile_px, tile_px):
        return f"which has {width} × {height} px, not {tile_px}"
    return None
