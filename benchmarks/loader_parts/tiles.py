"""The tiles of the benchmark: JPEGs of tissue, all different, made once into a cache folder as our shards."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from shared import texture

from rnagan.data.index import open_dataset
from rnagan.data.manifest import write_digest
from rnagan.data.reader import TileReader
from rnagan.data.writer import ShardWriter
from rnagan.io.files import atomic_path

TILE_PX, MPP, QUALITY = 256, 0.5, 90
SLIDES, TILES_A_SLIDE = 96, 208  # 19,968 tiles: whole batches of 64
SLIDES_A_PICTURE, PICTURE_PX = 12, (8192, 6144)
SAMPLE_EVERY = 311  # tiles whose pixels are compared
OPTIONS = {"tile_px": TILE_PX, "mpp": MPP, "jpeg_quality": QUALITY}


@dataclasses.dataclass(frozen=True)
class Tiles:
    """`shards`: tile n is tile n % TILES_A_SLIDE of slide n // TILES_A_SLIDE, with n as its key.

    `sample`: an .npz of `numbers` (n,) and `pixels` (n, H, W, 3) of some. `texture` is `real tiles` or `simulated`.
    """

    folder: Path
    shards: Path
    sample: Path
    texture: str


def make(cache: Path, data: Path, enlarge: int) -> Tiles:
    """What isn't in the cache yet. Texture that is enlarged has less in a tile, and its JPEG is smaller."""
    kind = "real" if texture.has_real(data) else "simulated"
    folder = cache.resolve() / f"loader-{kind}-x{enlarge}"
    tiles = Tiles(folder, folder / "shards", folder / "sample.npz", f"{kind} tiles")
    if not tiles.shards.is_dir():
        with atomic_path(tiles.shards) as temporary:
            _write_shards(temporary, data, enlarge)
    if not tiles.sample.is_file():
        with atomic_path(tiles.sample) as temporary:
            _write_sample(temporary, tiles.shards)
    return tiles


def write_shard(folder: Path, slide: str, jpegs: Iterator[tuple[int, bytes]]) -> dict:
    """A shard of numbered tiles; its record."""
    with ShardWriter(folder, slide) as shard:
        for number, jpeg in jpegs:
            x, y = TILE_PX * (number % TILES_A_SLIDE), TILE_PX * (number // TILES_A_SLIDE)
            description = {"slide": slide, "x": x, "y": y, "tile_px": TILE_PX, "mpp": MPP}
            shard.add(f"{number:06d}", jpeg, description, x, y)
        return shard.commit("done", {}, {}, OPTIONS, {})


def _write_shards(folder: Path, data: Path, enlarge: int) -> None:
    random = np.random.default_rng(0)
    for first in range(0, SLIDES, SLIDES_A_PICTURE):
        picture = texture.generate(*PICTURE_PX, 0.0, data, random)
        jpegs = enumerate(_cut(picture, TILE_PX // enlarge, random), first * TILES_A_SLIDE)
        for slide in range(first, first + SLIDES_A_PICTURE):
            write_shard(folder, f"slide-{slide:03d}", itertools.islice(jpegs, TILES_A_SLIDE))
    write_digest(folder)


def _cut(picture: NDArray[np.uint8], side: int, random: np.random.Generator) -> Iterator[bytes]:
    """JPEGs of squares anywhere in the picture, no two at the same place, each enlarged to a tile."""
    height, width = (length - side for length in picture.shape[:2])
    for place in random.choice(height * width, SLIDES_A_PICTURE * TILES_A_SLIDE, replace=False):
        top, left = divmod(int(place), width)
        square = Image.fromarray(picture[top : top + side + 1, left : left + side + 1])
        # by parts of a pixel, so that the same place of a real tile is never the same; unless it would only be blurred
        x, y = random.uniform(size=2).tolist() if side < TILE_PX else (0, 0)
        tile = square.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS, (x, y, x + side, y + side))
        yield simplejpeg.encode_jpeg(np.asarray(tile), QUALITY, "RGB", "444")


def _write_sample(path: Path, shards: Path) -> None:
    opened = open_dataset(shards)
    reader = TileReader(opened, opened.slides["slide"].tolist())
    numbers = np.arange(0, SLIDES * TILES_A_SLIDE, SAMPLE_EVERY)
    pixels = np.empty((len(numbers), TILE_PX, TILE_PX, 3), np.uint8)
    for number, out in zip(numbers.tolist(), pixels, strict=True):
        # the exact transform: an independent truth for all, whose decoders may round otherwise
        out[:] = simplejpeg.decode_jpeg(reader.read(*divmod(number, TILES_A_SLIDE)), "RGB", fastdct=False)
    np.savez(path, numbers=numbers, pixels=pixels)
