"""Arrays of tiles as pictures, PNG files whose metadata say that they are synthetic, and the one way to open images."""

import contextlib
import functools
import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from rnagan.io.bounds import MAX_PIXELS
from rnagan.io.claim import stated
from rnagan.io.files import atomic_path

Tiles = NDArray[np.uint8]

GAP = 2  # px between the tiles of a grid
_LINE = 18  # px of a line of text
_UNFIT = re.compile(r"[/\\.\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST_NAME = 70  # bytes of UTF-8
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "JPEG2000")  # Pillow knows more, and starts programs for some of them
_BROKEN = (  # what Pillow raises on damaged files
    *(OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError),
    *(TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError, NotImplementedError),
)


@contextlib.contextmanager
def open_image(source: Path | BinaryIO, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """An image of one of `formats`, whatever its name, for a block that reads its pixels.

    `ValueError` (the end of a sentence about the image) where it is of none of them, damaged, or larger than
    MAX_PIXELS by its header, before any pixel is decoded. `FileNotFoundError` where there is none.
    """
    try:
        with _silently(source), Image.open(source, formats=formats) as image:
            check_pixels(*image.size)
            yield image
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError:
        raise ValueError(f"has more than the {MAX_PIXELS:,} px that an image may have") from None
    except UnidentifiedImageError:
        raise ValueError(f"is no readable image; {name_formats(formats)} are read") from None
    except _BROKEN as error:
        raise ValueError(f"is no readable image ({type(error).__name__})") from None


@contextlib.contextmanager
def _silently(source: Path | BinaryIO) -> Iterator[None]:
    """Without Pillow's warning of large images, since the bound is our own. Bytes are opened in threads, which may not
    change the filters of warnings: their size is checked before."""
    if not isinstance(source, Path):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def check_pixels(width: int, height: int) -> None:
    """Refuse an image by the size that its header says: `ValueError`, the end of a sentence about it."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"has {width:,} × {height:,} px, and an image may have {MAX_PIXELS:,}")


def name_formats(formats: tuple[str, ...]) -> str:
    """`JPEG and PNG`, for messages."""
    *names, last = formats
    return f"{', '.join(names)} and {last}" if names else last


def shrink(image: Tiles, factor: int) -> Tiles:
    """An image (H, W, 3) averaged over squares of `factor` px; what doesn't fill a square at the far edges is cut."""
    height, width = (side // factor * factor for side in image.shape[:2])
    whole = image[:height, :width].astype(np.uint32)  # sums of integers: exact, and a fifth of the time of a mean
    bands = functools.reduce(np.add, (whole[k::factor] for k in range(factor)))
    sums = functools.reduce(np.add, (bands[:, k::factor] for k in range(factor)))
    return (sums / factor**2).round().astype(np.uint8)


def grid(rows: Tiles, gap: int = GAP) -> Tiles:
    """Tiles (rows, columns, H, W, 3) as one picture on white, `gap` px apart."""
    n_rows, n_columns, height, width, _ = rows.shape
    canvas = np.full((n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, 3), 255, np.uint8)
    for i in range(n_rows):
        for j in range(n_columns):
            canvas[i * (height + gap) :, j * (width + gap) :][:height, :width] = rows[i, j]
    return canvas


def picture_name(name: str, taken: set[str]) -> str:
    """What the file of a picture of `name` is called, without its ending; it joins those `taken` in the folder.

    Signs that are unfit for files become _. A name that is too long, or taken, is cut and gets a digest.
    """
    file = _UNFIT.sub("_", name)
    if len(file.encode()) > _LONGEST_NAME or file.lower() in taken or not file:
        start = file.encode()[: _LONGEST_NAME - 13].decode(errors="ignore")
        file = f"{start}-{hashlib.sha256(name.encode(errors='backslashreplace')).hexdigest()[:12]}"
    taken.add(file.lower())
    return file


def save_png(path: Path, image: Tiles, texts: dict[str, str] | None = None) -> None:
    """Write an RGB PNG by rename, with `texts` in its metadata."""
    with atomic_path(path) as temporary:
        _write_png(temporary, image, texts or {})


def save_pngs(folder: Path, images: dict[str, Tiles], texts: dict[str, str]) -> None:
    """Write a folder of RGB PNGs, `images` by file name, by one rename; each has `texts` in its metadata."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, image in images.items():
            _write_png(temporary / name, image, texts)


def png_bytes(image: Tiles, texts: dict[str, str] | None = None) -> bytes:
    """An RGB PNG (H, W, 3) with `texts` in its metadata, packed quickly rather than small."""
    packed = io.BytesIO()
    _write_png(packed, image, texts or {}, compress_level=1)
    return packed.getvalue()


def _write_png(path: Path | BinaryIO, image: Tiles, texts: dict[str, str], **options: int) -> None:
    info = PngInfo()
    if (claim := stated()) is not None:
        image = _with_line(image, claim.held_out)
        texts = texts | {"rnagan:held out": claim.held_out}
    for key, value in texts.items():
        info.add_text(key, value)
    Image.fromarray(np.ascontiguousarray(image)).save(path, format="PNG", pnginfo=info, **options)


def _with_line(image: Tiles, text: str) -> Tiles:
    """A picture (H, W, 3) with a line of text beneath it."""
    height, width = image.shape[:2]
    canvas = Image.new("RGB", (max(width, 8 + 7 * len(text)), height + _LINE), "white")
    canvas.paste(Image.fromarray(image), (0, 0))
    ImageDraw.Draw(canvas).text((4, height + 3), text, fill="black")
    return np.asarray(canvas)


def synthetic_texts(model_digest: str, profile: str, seed: int, mpp: float | None) -> dict[str, str]:
    """Metadata of a generated tile: that it is synthetic, and what made it."""
    return {
        "Synthetic": "true",
        "Description": "Synthetic tissue generated by rnagan from a gene expression profile; "
        "not a photograph of a patient.",
        "Software": "rnagan",
        "rnagan:model": model_digest,
        "rnagan:profile": profile,
        "rnagan:seed": str(seed),
        "rnagan:mpp": "unknown" if mpp is None else f"{mpp:g}",
    }
