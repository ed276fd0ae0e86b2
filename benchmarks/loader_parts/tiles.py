"""The tiles of the benchmark: JPEGs of tissue, all different, made once into a cache folder as our shards."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from shared import texture

from rnagan.data.index import open_dataset
from rnagan.data.reader import TileReader
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.io.files import atomic_path

TILE_PX, MPP, QUALITY = 256, 0.5, 90
GRID = 208  # tiles of a row of a slide, in what is said of their places
SLIDES_A_PICTURE = 12
SAMPLE_EVERY = 311  # tiles whose pixels are compared
OPTIONS = {"tile_px": TILE_PX, "mpp": MPP, "jpeg_quality": QUALITY}


@dataclasses.dataclass(frozen=True)
class Tiles:
    """`shards`: tile n is tile n % tiles_a_slide of slide n // tiles_a_slide, with n as its key.

    `sample`: an .npz of `numbers` (n,) and `pixels` (n, H, W, 3) of some. `texture` is `real tiles` or `simulated`.
    """

    folder: Path
    shards: Path
    sample: Path
    texture: str
    slides: int
    tiles_a_slide: int

    @property
    def count(self) -> int:
        return self.slides * self.tiles_a_slide

    def jpegs(self, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Those tiles, with their numbers."""
        opened = open_dataset(self.shards)
        reader = TileReader(opened, opened.slides["slide"].tolist())
        return ((number, reader.read(*divmod(number, self.tiles_a_slide))) for number in numbers)


def make(cache: Path, data: Path, enlarge: int, slides: int, tiles_a_slide: int, picture_px: int) -> Tiles:
    """What isn't in the cache yet: so many tiles, of pictures of that width.

    Texture that is enlarged has less in a tile, and its JPEG is smaller.
    """
    kind = "real" if texture.has_real(data) else "simulated"
    folder = cache.resolve() / f"loader-{kind}-x{enlarge}-{slides}x{tiles_a_slide}"
    tiles = Tiles(folder, folder / "shards", folder / "sample.npz", f"{kind} tiles", slides, tiles_a_slide)
    if not tiles.shards.is_dir():
        with atomic_path(tiles.shards) as temporary:
            _write_shards(temporary, data, enlarge, tiles, picture_px)
    if not tiles.sample.is_file():
        with atomic_path(tiles.sample) as temporary:
            _write_sample(temporary, tiles)
    return tiles


def write_shard(folder: Path, slide: str, jpegs: Iterator[tuple[int, bytes]], own_profiles: bool = False) -> dict:
    """A shard of numbered tiles; its record. `own_profiles`: each has one, SLIDE_NUMBER."""
    with ShardWriter(folder, slide) as shard:
        for number, jpeg in jpegs:
            x, y = TILE_PX * (number % GRID), TILE_PX * (number // GRID)
            description = {"slide": slide, "x": x, "y": y, "tile_px": TILE_PX, "mpp": MPP}
            profile = f"{slide}_{number}" if own_profiles else None
            shard.add(f"{number:06d}", jpeg, description, x, y, profile=profile)
        return shard.commit("done", {}, {}, OPTIONS | ({"profile": "tile"} if own_profiles else {}), {})


def _write_shards(folder: Path, data: Path, enlarge: int, tiles: Tiles, picture_px: int) -> None:
    random = np.random.default_rng(0)
    for first in range(0, tiles.slides, SLIDES_A_PICTURE):
        slides = range(first, min(first + SLIDES_A_PICTURE, tiles.slides))
        picture = texture.generate(picture_px, picture_px * 3 // 4, 0.0, data, random)
        cut = _cut(picture, TILE_PX // enlarge, len(slides) * tiles.tiles_a_slide, random)
        jpegs = enumerate(cut, first * tiles.tiles_a_slide)
        for slide in slides:
            write_shard(folder, f"slide-{slide:03d}", itertools.islice(jpegs, tiles.tiles_a_slide))
    write_digest(folder)


def _cut(picture: NDArray[np.uint8], side: int, count: int, random: np.random.Generator) -> Iterator[bytes]:
    """JPEGs of squares anywhere in the picture, no two at the same place, each enlarged to a tile."""
    height, width = (length - side for length in picture.shape[:2])
    for place in random.choice(height * width, count, replace=False):
        top, left = divmod(int(place), width)
        square = Image.fromarray(picture[top : top + side + 1, left : left + side + 1])
        # by parts of a pixel, so that the same place of a real tile is never the same; unless it would only be blurred
        x, y = random.uniform(size=2).tolist() if side < TILE_PX else (0, 0)
        tile = square.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS, (x, y, x + side, y + side))
        yield simplejpeg.encode_jpeg(np.asarray(tile), QUALITY, "RGB", "444")


def _write_sample(path: Path, tiles: Tiles) -> None:
    numbers = np.arange(0, tiles.count, SAMPLE_EVERY)
    pixels = np.empty((len(numbers), TILE_PX, TILE_PX, 3), np.uint8)
    for (_, jpeg), out in zip(tiles.jpegs(numbers.tolist()), pixels, strict=True):
        # the exact transform: an independent truth for all, whose decoders may round otherwise
        out[:] = simplejpeg.decode_jpeg(jpeg, "RGB", fastdct=False)
    np.savez(path, numbers=numbers, pixels=pixels)
