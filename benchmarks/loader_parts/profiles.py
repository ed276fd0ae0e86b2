"""What it costs the loader that each tile has a profile of its own: the same tiles with and without, in rounds that
alternate in one process, CPU seconds of all its threads, from the first batch on: slides are opened in them, the set
before."""

import io
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image

from rnagan.data.index import open_dataset
from rnagan.data.loader import Loading, tile_batches
from rnagan.data.manifest import INDEX, TAR, make_record, write_record
from rnagan.data.reader import TileReader
from rnagan.data.sampler import TileOrder
from rnagan.data.selection import select
from rnagan.data.set_digest import write_digest, write_table
from rnagan.data.writer import ShardWriter
from rnagan.io.files import atomic_path, sha256_of_file
from rnagan.io.parquet import read_parquet

from .tiles import MPP, QUALITY, TILE_PX, Tiles

SIDE = 64  # px: tiles that are decoded fastest, of which profiles cost the largest share
WITHOUT, WITH = "without", "with"


def measure_profiles(tiles: Tiles, slides: int, tiles_a_slide: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of an epoch with profiles over those without, the median of the rounds' ratios, and each round."""
    folder = _make(tiles, slides, tiles_a_slide)
    epoch = slides * tiles_a_slide // batch_size
    seconds: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    for n in range(rounds + 1):  # the first warms up
        for name in (WITHOUT, WITH) if n % 2 else (WITH, WITHOUT):
            batches = _batches(folder / name, batch_size)  # which opens the set
            began = time.process_time()
            for _, _ in zip(range(epoch), batches, strict=False):
                pass
            seconds[name].append(time.process_time() - began)
    ratios = [own / plain for own, plain in zip(seconds[WITH][1:], seconds[WITHOUT][1:], strict=True)]
    return {
        "profiles_cpu_ratio": round(statistics.median(ratios), 4),
        "profiles_rounds": {name: [round(each, 3) for each in own[1:]] for name, own in seconds.items()},
    }


def _batches(folder: Path, batch_size: int) -> Iterator[Any]:
    shards = open_dataset(folder)
    reader = TileReader(shards, shards.slides["slide"].tolist(), shards.slides["tiles"].to_numpy(np.int64))
    if shards.profiles is not None:
        cohort = shards.profiles.frame().rename(columns={"profile": "sample"})
        cohort = cohort.assign(donor=cohort["slide"], tissue="lung", split="train", site="")
        reader = select(shards, cohort, "train", sys.maxsize).reader(shards)
    assert reader.counts is not None
    return tile_batches(reader, TileOrder(reader.counts, seed=0), 0, batch_size, loading=Loading(threads=1))


def _make(tiles: Tiles, slides: int, tiles_a_slide: int) -> Path:
    """Both sets, which share their tars' tiles: squares of SIDE px of the benchmark's tiles."""
    folder = tiles.folder / f"profiles-{slides}x{tiles_a_slide}"
    if folder.is_dir():
        return folder
    with atomic_path(folder) as temporary:
        (temporary / WITH).mkdir(parents=True)
        jpegs = _squares(tiles)
        for n in range(slides):
            _write(temporary, f"slide-{n:03d}", [next(jpegs) for _ in range(tiles_a_slide)])
        for name in (WITHOUT, WITH):
            write_digest(temporary / name)
    return folder


def _squares(tiles: Tiles) -> Iterator[bytes]:
    while True:
        for _, jpeg in tiles.jpegs(range(tiles.count)):
            pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
            for corner in range(0, TILE_PX - SIDE + 1, SIDE):
                yield simplejpeg.encode_jpeg(
                    np.ascontiguousarray(pixels[corner : corner + SIDE, :SIDE]), QUALITY, "RGB", "444"
                )


def _write(folder: Path, slide: str, jpegs: list[bytes]) -> None:
    options = {"tile_px": SIDE, "mpp": MPP}
    with ShardWriter(folder / WITHOUT, slide) as shard:
        for number, jpeg in enumerate(jpegs):
            shard.add(f"{slide}_n{number}", jpeg, {"slide": slide, "tile_px": SIDE, "mpp": MPP})
        record = shard.commit("done", {}, {}, options, {})
    index = read_parquet(folder / WITHOUT / (slide + INDEX))
    own = index.assign(profile=pd.Series(range(len(index))).map("{:06d}".format).radd(f"{slide}_AACGTTGACCTAGTCA-"))
    os.link(folder / WITHOUT / (slide + TAR), folder / WITH / (slide + TAR))
    write_table(folder / WITH / (slide + INDEX), own)
    sums = {"index_sha256": sha256_of_file(folder / WITH / (slide + INDEX))}
    options = options | {"profile": "tile"}
    made = make_record(slide, "done", len(jpegs), {}, {}, options, {}, record["sha256"], record["bytes"], **sums)
    write_record(folder / WITH, made)
