"""Features of many tiles in one array on disk: made by all processes, read in pieces, kept under a digest.

Memory doesn't grow with the number of tiles. Tiles are taken in batches of their numbers, whichever process makes them
and however many there are, so the features are the same bits on any number of processes of as many threads.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rnagan.evaluation.features import FeatureExtractor
from rnagan.io.files import name_file, remove_leftovers, scratch_prefix, write_json
from rnagan.io.provenance import asked
from rnagan.runtime import progress
from rnagan.runtime.devices import rounding
from rnagan.runtime.distributed import Processes

BATCH = 32
AHEAD = 2  # batches that are read, or generated, while the extractor is at work

MakeTiles = Callable[[range], NDArray[np.uint8]]
Features = NDArray[np.float32]


def write_features(
    path: Path, make_tiles: MakeTiles, count: int, extractor: FeatureExtractor, here: Processes, title: str
) -> Features | None:
    """Write features (count, width) float32 to `path` (.npy); the main process returns them, mapped from there, and
    the others None. Every process calls.

    `make_tiles(numbers)` gives the tiles (n, H, W, 3) uint8 of some consecutive numbers below `count`; it is called in
    a thread of its own, ahead of the extractor. `path` must lie on a disk that all processes see: each writes a file of
    its own there, since two machines that write one file lose what shares a page, and the main process joins them.
    Raises `FileNotFoundError` where one doesn't see it.
    """
    growing = path.with_name(here.agree(f"{scratch_prefix()}features"))  # another job may make the same
    try:
        here.from_main(lambda: growing.mkdir(parents=True))
        here.each(lambda: _check_seen(growing))  # before an hour of work
        own = here.share(-(-count // BATCH))
        batches = [range(k * BATCH, min((k + 1) * BATCH, count)) for k in own]
        with open(_part(growing, here.rank), "wb") as file:
            with progress.bar(sum(map(len, batches)), "tile", title) as bar:
                for numbers, tiles in zip(batches, _ahead(make_tiles, batches), strict=True):
                    file.write(np.ascontiguousarray(extractor(tiles), "<f4").tobytes())
                    bar.update(len(numbers))
            file.flush()
            os.fsync(file.fileno())
        here.wait()
        here.from_main(lambda: _join(growing, path, (count, extractor.width), here.count))
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        if here.is_main:
            shutil.rmtree(growing, ignore_errors=True)
    return read_features(path) if here.is_main else None


def _part(growing: Path, rank: int) -> Path:
    return growing / f"{rank}.float32"


def _check_seen(growing: Path) -> None:
    if not growing.is_dir():
        raise FileNotFoundError(
            f"{growing}, which process 0 made, isn't there; choose a folder on a disk that all processes see."
        )


def _join(growing: Path, path: Path, shape: tuple[int, int], parts: int) -> None:
    """One .npy of the files of all processes, in the order of the tiles; it appears by rename."""
    joined, bytes_found = growing / path.name, 0
    with open(joined, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for part in (_part(growing, rank) for rank in range(parts)):
            bytes_found += part.stat().st_size
            with open(part, "rb") as own:
                shutil.copyfileobj(own, file)
            part.unlink()
        file.flush()
        os.fsync(file.fileno())
    if bytes_found != 4 * shape[0] * shape[1]:
        raise ValueError(f"{bytes_found:,} bytes of features reached {growing}, not all of {shape}; start again.")
    joined.replace(path)
    growing.rmdir()


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
) -> tuple[Features | None, str]:
    """As `write_features`, in the folder `cache` under the digest of `made_from`, which must name everything that
    decides them, and of how `device` rounds, since a GPU does otherwise than a CPU; made only where the main process
    doesn't see them there. Returns them and the digest of `made_from` alone."""
    made_from = made_from | {"count": count, "width": extractor.width}
    digest = asked(code=False, **made_from)  # an hour of Inception: `made_from` names the versions that count
    if device.type != "cpu":  # a CPU's have the name that they had before GPUs'
        made_from |= rounding(device)
    name = asked(code=False, **made_from)
    path, record = cache / f"{name}.npy", cache / f"{name}.json"
    # The record is written last. One process looks: machines see a common disk's news at different times.
    if here.from_main(lambda: record.is_file() and path.is_file()):
        return (read_features(path) if here.is_main else None), digest
    features = write_features(path, make_tiles, count, extractor, here, title)
    if here.is_main:
        write_json(record, made_from)
        remove_leftovers(cache)
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
