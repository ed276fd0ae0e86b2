"""Small shards of non-square positions, built as rnagan build-tiles builds them."""

import numpy as np
import pytest
import simplejpeg

from rnagan.data.index import open_dataset
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter

SIDE = 24


def make_tile(slide: str, n: int) -> np.ndarray:
    """A tile without symmetry, different for every slide and number."""
    y, x = np.mgrid[:SIDE, :SIDE]
    base = sum(map(ord, slide)) * 7 + n * 13
    return np.stack([(x * 8 + base) % 200, (y * 5 + 3 * base) % 220, (x + 2 * y + base) % 240], axis=2).astype(np.uint8)


@pytest.fixture
def make_shards(tmp_path):
    """make_shards({"a": 3, "b": 0}) writes tars of so many tiles and opens the folder; `jpeg(slide, n)` may differ."""

    def make(tiles, jpeg=None, name="shards"):
        folder = tmp_path / name
        encode = jpeg or (lambda slide, n: simplejpeg.encode_jpeg(make_tile(slide, n), 90, "RGB", "420"))
        for slide, count in tiles.items():
            with ShardWriter(folder, slide) as shard:
                for n in range(count):
                    shard.add(f"{slide}_x{n}_y{2 * n}", encode(slide, n), {"slide": slide}, n, 2 * n)
                shard.commit("done" if count else "no_tiles", {}, {}, {"tile_px": SIDE, "mpp": 0.5}, {})
        write_digest(folder)
        return open_dataset(folder)

    return make
