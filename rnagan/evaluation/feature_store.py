"""Features of many tiles in an array on disk: made by all processes, read in pieces, kept under a digest.

Memory doesn't grow with the number of tiles. Tiles are taken in batches of their numbers, whichever process makes them
and however many there are, so the features are the same bits on any number of processes of as many threads.
"""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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
AHEAD = 2  # batches that are read, or generated, while the extractors are at work

MakeTiles = Callable[[range], NDArray[np.uint8]]
Features = NDArray[np.float32]


class Wanted(NamedTuple):
    """Features of an `extractor` that are kept in `folder` under the digest of `made_from`, which must name everything
    that decides them."""

    folder: Path
    made_from: dict[str, Any]
    extractor: FeatureExtractor


def write_features(
    outputs: Mapping[Path, FeatureExtractor], make_tiles: MakeTiles, count: int, here: Processes, title: str
) -> None:
    """Write the features (count, width) float32 of each extractor to its path (.npy), in one pass over the tiles; the
    main process can read them then (`read_features`). Every process calls.

    `make_tiles(numbers)` gives the tiles (n, H, W, 3) uint8 of some consecutive numbers below `count`; it is called in
    a thread of its own, ahead of the extractors. Paths must lie on a disk that all processes see: each writes a file of
    its own there, since two machines that write one file lose what shares a page, and the main process joins them.
    Raises `FileNotFoundError` where one doesn't see it.
    """
    own = here.share(-(-count // BATCH))
    batches = [range(k * BATCH, min((k + 1) * BATCH, count)) for k in own]
    with contextlib.ExitStack() as stack:
        files = [
            (extractor, stack.enter_context(_own_part(path, number, (count, extractor.width), here)))
            for number, (path, extractor) in enumerate(outputs.items())
        ]
        with progress.bar(sum(map(len, batches)), "tile", title) as bar:
            for numbers, tiles in zip(batches, _ahead(make_tiles, batches), strict=True):
                for extractor, file in files:
                    file.write(np.ascontiguousarray(extractor(tiles), "<f4").tobytes())
                bar.update(len(numbers))


@contextlib.contextmanager
def _own_part(path: Path, number: int, shape: tuple[int, int], here: Processes) -> Iterator[BinaryIO]:
    """A file for this process's part of the features at `path`, the `number`th that are written at once; the main
    process joins all parts behind the block."""
    growing = path.with_name(here.agree(f"{scratch_prefix()}features{number}"))  # another job may make the same
    try:
        here.from_main(lambda: growing.mkdir(parents=True))
        here.each(lambda: _check_seen(growing))  # before an hour of work
        with open(_part(growing, here.rank), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        here.wait()
        here.from_main(lambda: _join(growing, path, shape, here.count))
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        if here.is_main:
            shutil.rmtree(growing, ignore_errors=True)


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
    wanted: Sequence[Wanted], make_tiles: MakeTiles, count: int, here: Processes, title: str, device: torch.device
) -> list[tuple[Features | None, str]]:
    """All features `wanted` of the same tiles, each with the digest of its `made_from`: mapped from its folder on the
    main process, None on the others. Those that the main process doesn't see there are made, in one pass, as
    `write_features` does, under a digest that also covers how `device` rounds, since a GPU does otherwise than a CPU.
    """
    digests, paths, missing = [], [], {}
    for folder, made_from, extractor in wanted:
        record = made_from | {"count": count, "width": extractor.width}
        digests.append(asked(code=False, **record))  # an hour of Inception: `made_from` names the versions that count
        if device.type != "cpu":  # a CPU's have the name that they had before GPUs'
            record |= rounding(device)
        path = folder / f"{asked(code=False, **record)}.npy"
        paths.append(path)
        # One process looks: machines see a common disk's news at different times.
        if not here.from_main(functools.partial(_is_kept, path)):
            missing[path] = extractor, record
    if missing:
        write_features({path: extractor for path, (extractor, _) in missing.items()}, make_tiles, count, here, title)
        for path, (_, record) in missing.items() if here.is_main else ():
            write_json(path.with_suffix(".json"), record)
            remove_leftovers(path.parent)
    return [
        (read_features(path) if here.is_main else None, digest) for path, digest in zip(paths, digests, strict=True)
    ]


def _is_kept(path: Path) -> bool:
    """Whether features are whole: their record is written last."""
    return path.with_suffix(".json").is_file() and path.is_file()


def _ahead(make_tiles: MakeTiles, batches: list[range]) -> Iterator[NDArray[np.uint8]]:
    """The tiles of each batch, made in a thread while those before are in use."""
    with ThreadPoolExecutor(1) as thread:
        waiting = [thread.submit(make_tiles, numbers) for numbers in batches[:AHEAD]]
        for k in range(len(batches)):
            tiles = waiting.pop(0).result()
            if k + AHEAD < len(batches):
                waiting.append(thread.submit(make_tiles, batches[k + AHEAD]))
            yield tiles
