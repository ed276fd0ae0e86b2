"""A small set of shards, as rnagan build-tiles builds them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[[dict[str, int], int], ShardSet]:
    """make_shards({"a": 3, "b": 0}, 64) writes tars of so many tiles of 64 px."""

    def make(tiles: dict[str, int], side: int) -> ShardSet:
        draw = np.random.default_rng(0)
        for slide, count in tiles.items():
            with ShardWriter(tmp_path / "shards", slide) as shard:
                for n in range(count):
                    tile = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
                    jpeg = simplejpeg.encode_jpeg(tile, 90, "RGB", "444")
                    shard.add(f"{slide}_x{n}_y{2 * n}", jpeg, {"slide": slide}, n, 2 * n)
                shard.commit("done" if count else "no_tiles", {}, {}, {"tile_px": side, "mpp": 0.5}, {})
        write_digest(tmp_path / "shards")
        return open_dataset(tmp_path / "shards")

    return make
