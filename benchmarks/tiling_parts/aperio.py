"""Writes slides as Aperio's scanners do: JPEG tiles of 256 px that share their tables, levels of a quarter each.

YCbCr with chroma halved both ways and quality 70, as in OpenSlide's CMU-1.svs but for the quality, which there is 30.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image
from shared import texture

from rnagan.io.files import atomic_path
from rnagan.io.images import shrink

TILE_PX = 256
QUALITY = 70
DISTINCT_TILES = 96  # of tissue, in a slide of repeated tiles
_TABLES = (0xDB, 0xC4)  # JPEG segments: quantisation, Huffman
_SCAN = 0xDA


@dataclasses.dataclass(frozen=True)
class Level:
    """One level: its size in px and its encoded tiles, row by row."""

    width_px: int
    height_px: int
    tiles: Iterator[bytes]


def write_pixels(path: Path, pixels: NDArray[np.uint8], mpp: float, enlarge: int = 1) -> None:
    """A slide of `pixels` (H, W, 3), enlarged by a whole factor so that level 0 has `mpp` µm per px."""
    height, width = pixels.shape[:2]
    whole = Image.fromarray(pixels)

    def enlarged(row: int, column: int) -> NDArray[np.uint8]:
        side = TILE_PX // enlarge
        box = (column * side, row * side, min((column + 1) * side, width), min((row + 1) * side, height))
        size = ((box[2] - box[0]) * enlarge, (box[3] - box[1]) * enlarge)
        if enlarge == 1:
            return pixels[box[1] : box[3], box[0] : box[2]]
        return np.asarray(whole.resize(size, Image.Resampling.LANCZOS, box=box))

    levels = [_level(width * enlarge, height * enlarge, enlarged)]
    for factor in (4, 16):
        smaller = shrink(pixels, factor // enlarge)

        def cut(row: int, column: int, image: NDArray[np.uint8] = smaller) -> NDArray[np.uint8]:
            return image[row * TILE_PX : (row + 1) * TILE_PX, column * TILE_PX : (column + 1) * TILE_PX]

        levels.append(_level(smaller.shape[1], smaller.shape[0], cut))
    _write(path, levels, shrink(pixels, 16 // enlarge), mpp)


def write_repeated(
    path: Path, size_px: tuple[int, int], mpp: float, glass_share: float, data: Path, random: np.random.Generator
) -> None:
    """A slide of width × height `size_px` whose level 0 repeats a few tiles: huge, and quickly made."""
    width, height = size_px
    rows, columns = math.ceil(height / TILE_PX), math.ceil(width / TILE_PX)
    block = texture.generate(DISTINCT_TILES * TILE_PX, TILE_PX, 0.0, data, random)
    tiles = list(block.reshape(TILE_PX, DISTINCT_TILES, TILE_PX, 3).swapaxes(0, 1))
    tiles.append(np.full((TILE_PX, TILE_PX, 3), texture.GLASS, np.uint8))
    stack = np.stack(tiles)
    encoded = [encode(tile) for tile in stack]
    which = random.integers(DISTINCT_TILES, size=(rows, columns))
    which[texture.tissue_outline(rows, columns, glass_share, random) < 0] = DISTINCT_TILES
    which = np.pad(which, ((0, -rows % 64), (0, -columns % 64)), constant_values=DISTINCT_TILES)
    levels = [Level(width, height, (encoded[k] for k in which[:rows, :columns].ravel()))]
    for factor in (4, 16, 64):
        small = stack.reshape(len(stack), TILE_PX // factor, factor, TILE_PX // factor, factor, 3)
        small = small.mean(axis=(2, 4)).round().astype(np.uint8)

        def assemble(row: int, column: int, small: NDArray = small, factor: int = factor) -> NDArray[np.uint8]:
            part = small[which[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]]
            return part.transpose(0, 2, 1, 3, 4).reshape(TILE_PX, TILE_PX, 3)

        levels.append(_level(width // factor, height // factor, assemble))
    thumbnail = np.full((height // 128, width // 128, 3), texture.GLASS, np.uint8)
    _write(path, levels, thumbnail, mpp)


def encode(tile: NDArray[np.uint8]) -> bytes:
    """A tile's JPEG stream without tables; tiles cut by an edge are filled up."""
    short = [(0, TILE_PX - tile.shape[0]), (0, TILE_PX - tile.shape[1]), (0, 0)]
    return _split(_jpeg(np.pad(tile, short, mode="edge")))[1]


def _level(width_px: int, height_px: int, tile: Callable[[int, int], NDArray[np.uint8]]) -> Level:
    rows, columns = math.ceil(height_px / TILE_PX), math.ceil(width_px / TILE_PX)
    return Level(width_px, height_px, (encode(tile(row, column)) for row in range(rows) for column in range(columns)))


def _write(path: Path, levels: list[Level], thumbnail: NDArray[np.uint8], mpp: float) -> None:
    maker = "Aperio Image Library v11.2.1 \r\n"
    width, height = levels[0].width_px, levels[0].height_px
    properties = f"JPEG/RGB Q={QUALITY}|AppMag = {10 / mpp:g}|MPP = {mpp:g}"
    whole = f"{maker}{width}x{height} [0,0 {width}x{height}] ({TILE_PX}x{TILE_PX})"
    tables = _split(_jpeg(np.zeros((TILE_PX, TILE_PX, 3), np.uint8)))[0]
    bigtiff = width * height > 2**32
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=bigtiff) as tiff:
        for number, level in enumerate(levels):
            scaled = f" -> {level.width_px}x{level.height_px}" if number else ""
            tiff.write(
                level.tiles,
                shape=(level.height_px, level.width_px, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(2, 2),
                jpegtables=tables,
                description=f"{whole}{scaled} {properties}",
                metadata=None,
                software=False,
            )
            if not number:
                tiff.write(
                    thumbnail,
                    photometric="rgb",
                    compression="jpeg",
                    rowsperstrip=16,
                    description=f"{maker}{width}x{height} -> {thumbnail.shape[1]}x{thumbnail.shape[0]} - ",
                    metadata=None,
                    software=False,
                )


def _jpeg(tile: NDArray[np.uint8]) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(tile), QUALITY, "RGB", "420")


def _split(jpeg: bytes) -> tuple[bytes, bytes]:
    """A JPEG's tables and the rest, each a stream of its own, as TIFF keeps them (Technical Note 2)."""
    tables, rest = [jpeg[:2]], [jpeg[:2]]
    at = 2
    while jpeg[at + 1] != _SCAN:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        (tables if jpeg[at + 1] in _TABLES else rest).append(jpeg[at:end])
        at = end
    return b"".join([*tables, b"\xff\xd9"]), b"".join([*rest, jpeg[at:]])
