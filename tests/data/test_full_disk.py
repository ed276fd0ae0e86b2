"""A build whose disk fills up keeps what is finished, says so once, and goes on to the bytes of a calm one."""

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rnagan.config.tiling import TilingConfig
from rnagan.data import build_jobs
from rnagan.io.disk_errors import CONCERNS_ALL, in_words
from rnagan.io.files import sha256_of_file
from rnagan.slides.premade_tiles import pack_tiles
from tests.disks import enlarge, small_disk

CONFIG = TilingConfig(tile_px=64)


def shards(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of_file(path) for path in folder.iterdir() if path.is_file()}


@pytest.mark.attack(kind=7, ends="unharmed")
def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    noise, rows = np.random.default_rng(0), []
    for k in range(60):
        Image.fromarray(noise.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / f"{k}.png")
        rows.append({"path": f"{k}.png", "tissue": "lung", "donor": f"d{k // 20}"})
    table = tmp_path / "tiles.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    pack_tiles(table, tmp_path / "calm", CONFIG)
    with small_disk(tmp_path / "disk", "300k") as disk:
        with pytest.raises(OSError) as raised:
            pack_tiles(table, disk, CONFIG)
        assert in_words(raised.value).startswith(f"the disk is full ({disk}/d")
        left = {path.name for path in disk.iterdir()}
        assert "d0.record.json" in left and "d2.record.json" not in left
        assert not [name for name in left if name.startswith(".tmp-")]
        enlarge(disk, "20m")
        assert pack_tiles(table, disk, CONFIG).up_to_date >= 1
        assert shards(disk) == shards(tmp_path / "calm")


@pytest.mark.attack(kind=7)
@pytest.mark.parametrize("number", CONCERNS_ALL)
def test_what_concerns_the_whole_build_ends_it(number: int) -> None:
    with pytest.raises(OSError):
        build_jobs._failure(OSError(number, "x"))
    denied = build_jobs._failure(PermissionError(errno.EACCES, "Permission denied", "slide.svs"))
    assert denied.reason == "unreadable" and "[Errno" not in denied.sentence and "slide.svs" in denied.sentence
