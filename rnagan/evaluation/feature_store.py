"""Features of many tiles in one array on disk: made by all processes, read in pieces, kept under a digest.

Memory doesn't grow with the number of tiles. Tiles are taken in batches of their numbers, whichever process makes them
and however many there are, so the features are the same bits on any number of processes of as many threads.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rnagan.evaluation.features import FeatureExtractor
from rnagan.io.files import remove_leftovers, scratch_prefix, write_json
from rnagan.io.provenance import asked
from rnagan.runtime import progress
from rnagan.runtime.distributed import Processes

BATCH = 32
AHEAD = 2  # batches that are read, or generated, while the extractor is at work

MakeTiles = Callable[[range], NDArray[np.uint8]]
Features = NDArray[np.float32]


def write_features(
    path: Path, make_tiles: MakeTiles, count: int, extractor: FeatureExtractor, here: Processes, title: str
) -> Features:
    """Write features (count, width) float32 to `path` (.npy) and return them, mapped from there; every process calls.

    `make_tiles(numbers)` gives the tiles (n, H, W, 3) uint8 of some consecutive numbers below `count`; it is called in
    a thread of its own, ahead of the extractor. `path` must lie on a disk that all processes see.
    """
    growing = path.with_name(here.agree(f"{scratch_prefix()}features")) / path.name  # another job may make the same
    if here.is_main:
        growing.parent.mkdir(parents=True)
        np.lib.format.open_memmap(growing, mode="w+", dtype=np.float32, shape=(count, extractor.width)).flush()
    here.wait()
    features = np.lib.format.open_memmap(growing, mode="r+")
    own = here.share(-(-count // BATCH))
    batches = [range(k * BATCH, min((k + 1) * BATCH, count)) for k in own]
    with progress.bar(sum(map(len, batches)), "tile", title) as bar:
        for numbers, tiles in zip(batches, _ahead(make_tiles, batches), strict=True):
            features[numbers.start : numbers.stop] = extractor(tiles)
            bar.update(len(numbers))
    features.flush()
    here.wait()
    if here.is_main:
        growing.replace(path)
        growing.parent.rmdir()
    here.wait()
    return read_features(path)


def read_features(path: Path) -> Features:
    """The features (n, width) in a file, mapped: they are read when they are used. `ValueError` where it has none."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} holds no features ({error}); delete it, they are made again.") from None


def cached_features(
    cache: Path,
    made_from: dict[str, Any],
    make_tiles: MakeTiles,
    count: int,
    extractor: FeatureExtractor,
    here: Processes,
    title: str,
    device: torch.device,
) -> tuple[Features, str]:
    """As `write_features`, in the folder `cache` under the digest of `made_from`, which must name everything that
    decides them, and of the kind of `device`, since a GPU rounds otherwise than a CPU; made only where they aren't
    there. Returns them and the digest of `made_from` alone."""
    made_from = made_from | {"count": count, "width": extractor.width}
    digest = asked(code=False, **made_from)  # an hour of Inception: `made_from` names the versions that count
    if device.type != "cpu":  # a CPU's have the name that they had before GPUs'
        made_from |= {"device": device.type}
    name = asked(code=False, **made_from)
    path, record = cache / f"{name}.npy", cache / f"{name}.json"
    ready = record.is_file() and path.is_file()  # the record is written last
    here.wait()  # all have looked before any writes
    if ready:
        return read_features(path), digest
    features = write_features(path, make_tiles, count, extractor, here, title)
    if here.is_main:
        write_json(record, made_from)
        remove_leftovers(cache)
    here.wait()
    return features, digest


def _ahead(make_tiles: MakeTiles, batches: list[range]) -> Iterator[NDArray[np.uint8]]:
    """The tiles of each batch, made in a thread while those before are in use."""
    with ThreadPoolExecutor(1) as thread:
        waiting = [thread.submit(make_tiles, numbers) for numbers in batches[:AHEAD]]
        for k in range(len(batches)):
            tiles = waiting.pop(0).result()
            if k + AHEAD < len(batches):
                waiting.append(thread.submit(make_tiles, batches[k + AHEAD]))
            yield tiles
