"""How fast tiles come out of a set of shards: bytes from its storage, pixels from bytes, and the whole loader."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil

from rnagan.config.gan import GANConfig
from rnagan.data.image_codec import decode_into
from rnagan.data.index import ShardSet, tar_name
from rnagan.data.loader import default_threads, tile_batches
from rnagan.data.reader import Batch, TileReader
from rnagan.data.sampler import Order, TileOrder
from rnagan.data.selection import make_order, select
from rnagan.doctor.findings import Section
from rnagan.training.tile_inputs import make_loading

SECONDS = 2.0  # of each measurement, about
MOST_TILES = 4000  # of a sample
MOST_OF_SLIDE = 64
CHECKED_TILES = 32  # that are asked whether they are in memory
DECODED_TILES = 256


class Chosen(NamedTuple):
    """Slides that a run would read, how many tiles of each, and in which order."""

    slides: list[str]
    counts: np.ndarray
    order: Order


class _Place(NamedTuple):
    """Where the image of a tile lies: file, offset and size in bytes."""

    tar: str
    offset: int
    size: int


def choose(shards: ShardSet, cohort: pd.DataFrame | None, config: GANConfig) -> Chosen:
    """What a run of `config` reads; without a cohort table, of all slides."""
    if cohort is not None:
        selection = select(shards, cohort, "train", config.tiles_per_slide, config.where)
        order = make_order(selection, config.seed, config.window_slides, config.tile_order, config.tissue_weights)
        return Chosen(selection.slides["slide"].tolist(), selection.counts, order)
    table = shards.slides[shards.slides["tiles"] > 0]
    counts = table["tiles"].clip(upper=config.tiles_per_slide).to_numpy(np.int64)
    return Chosen(table["slide"].tolist(), counts, TileOrder(counts, config.seed, config.window_slides))


def check_reading(section: Section, shards: ShardSet, chosen: Chosen, config: GANConfig) -> None:
    """Measure reading, decoding and the loader. A damaged tile or tar is a problem; the measurement ends with it."""
    section.figures["tile_px"] = shards.tile_px
    try:
        _describe(section, shards, chosen)
        places = _sample(shards, chosen)
        _check_storage(section, shards, places, config)
        _check_decoding(section, shards, places)
        _check_loader(section, shards, chosen, config)
    except (ValueError, OSError) as error:  # a damaged tile or tar, a file system or server that fails
        section.problem(str(error), f"see what else is wrong: rnagan check-shards {shards.address}")


def loader_rate(figures: dict[str, Any]) -> float | None:
    """Images a second that a loader feeds: as measured, but no faster than storage whose tiles don't fit in memory."""
    rate, stored = figures.get("loader_images_per_second"), figures.get("read_tiles_per_second")
    return rate if rate is None or stored is None or figures["fits_in_memory"] else min(rate, stored)


def decode_rate(figures: dict[str, Any]) -> float | None:
    """Images a second that all cores decode."""
    return max(figures.get("decode_images_per_second", {}).values(), default=None)


def batches(shards: ShardSet, chosen: Chosen, config: GANConfig) -> Iterator[Batch]:
    """What the trainer reads on one process."""
    reader = TileReader(shards, chosen.slides, chosen.counts, config.window_slides)
    return tile_batches(reader, chosen.order, 0, config.batch_size, loading=make_loading(config))


def _describe(section: Section, shards: ShardSet, chosen: Chosen) -> None:
    per_tile = shards.slides["bytes"].sum() / max(1, shards.slides["tiles"].sum())
    in_use = int(chosen.order.epoch_length * per_tile)
    available = psutil.virtual_memory().available
    fits = in_use < available // 2
    section.figures |= {
        "slides_in_use": len(chosen.slides),
        "tiles_in_use": chosen.order.epoch_length,
        "bytes_in_use": in_use,
        "available_memory_bytes": available,
        "fits_in_memory": fits,
    }
    section.ok(
        f"{chosen.order.epoch_length:,} tiles of {shards.tile_px} px in {len(chosen.slides):,} slides, "
        f"{in_use / 1e9:,.2f} GB: "
        + (
            "they stay in memory after the first epoch."
            if fits
            else "more than memory keeps, so every epoch reads anew."
        )
    )


def _sample(shards: ShardSet, chosen: Chosen) -> list[_Place]:
    """Tiles of as many slides as can be opened in a while, in a random order."""
    draw = np.random.default_rng(0)
    end = time.perf_counter() + SECONDS
    places: list[_Place] = []
    for slide in draw.permutation(np.flatnonzero(chosen.counts)):
        name, count = chosen.slides[slide], int(chosen.counts[slide])
        offset, size, _ = shards.locations(name, count)
        places += [
            _Place(tar_name(name), int(offset[k]), int(size[k])) for k in draw.permutation(count)[:MOST_OF_SLIDE]
        ]
        if len(places) >= MOST_TILES or time.perf_counter() > end:
            break
    return [places[k] for k in draw.permutation(len(places))[:MOST_TILES]]


def _check_storage(section: Section, shards: ShardSet, places: list[_Place], config: GANConfig) -> None:
    threads = config.loader_threads or default_threads(shards.storage)
    checked, timed = places[:CHECKED_TILES], places[CHECKED_TILES:] or places
    cached = None
    if not shards.storage.is_remote:
        for tar in {place.tar for place in places}:
            _drop_from_memory(os.path.join(shards.address, tar))
        cached = _share_in_memory(shards, checked)
    cold = _read_rate(shards, timed, threads)
    warm = _read_rate(shards, timed[: cold["tiles"]], threads)
    section.figures |= {
        "read_threads": threads,
        "read_bytes_per_second": cold["bytes_per_second"],
        "read_tiles_per_second": cold["tiles_per_second"],
        "read_again_bytes_per_second": warm["bytes_per_second"],
        "share_in_memory_after_drop": cached,
    }
    speed = (
        f"Reading, {threads} thread{'s' * (threads > 1)}: {cold['bytes_per_second'] / 1e6:,.0f} MB/s, "
        f"{cold['tiles_per_second']:,.0f} tiles/s"
    )
    again = f"{warm['bytes_per_second'] / 1e6:,.0f} MB/s when read again"
    if shards.storage.is_remote:
        section.ok(f"{speed} over the network or from the cache in between; {again}.")
    elif cached is None or cached > 0.1:
        section.warn(
            f"{speed}; {again}. The tars could not be dropped from memory first, so the first figure may be the page "
            "cache's, and the file system slower.",
            "for a cold figure run it before anything else has read these shards",
        )
    else:
        section.ok(f"{speed} from the file system (dropped from memory first); {again}, from the page cache.")


def _read_rate(shards: ShardSet, places: list[_Place], threads: int) -> dict[str, Any]:
    """Read these tiles for a while; how many, and bytes and tiles a second."""
    end = time.perf_counter() + SECONDS

    def read(part: list[_Place]) -> tuple[int, int]:
        tiles = size = 0
        for place in part:
            if time.perf_counter() > end:
                break
            tiles, size = tiles + 1, size + len(shards.storage.read_range(*place))
        return tiles, size

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(read, [places[k::threads] for k in range(threads)]))
    seconds = time.perf_counter() - began
    tiles, size = map(sum, zip(*done, strict=True))
    return {"tiles": tiles, "tiles_per_second": tiles / seconds, "bytes_per_second": size / seconds}


def _drop_from_memory(path: str) -> None:
    """Ask the kernel to forget a file's pages; those not yet on disk are written first."""
    with open(path, "rb") as tar:
        for ask in (os.fsync, lambda handle: os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)):
            with contextlib.suppress(OSError):  # _share_in_memory finds out whether it did
                ask(tar.fileno())


def _share_in_memory(shards: ShardSet, places: list[_Place]) -> float | None:
    """The share of tiles that can be read without waiting for a disk; None where the file system can't say."""
    ready = 0
    for place in places:
        with open(os.path.join(shards.address, place.tar), "rb") as tar, contextlib.suppress(BlockingIOError):
            try:
                ready += os.preadv(tar.fileno(), [bytearray(place.size)], place.offset, os.RWF_NOWAIT) == place.size
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    return None
                raise
    return ready / len(places)


def _check_decoding(section: Section, shards: ShardSet, places: list[_Place]) -> None:
    images = [shards.storage.read_range(*place) for place in places[:DECODED_TILES]]
    cores = len(os.sched_getaffinity(0))
    threads = sorted({1 << k for k in range(cores.bit_length())} | {cores})
    rates = {n: _decode_rate(images, shards.tile_px, n) for n in threads if n <= cores}
    section.figures["decode_images_per_second"] = rates
    listed = ", ".join(f"{rate:,.0f} with {n} thread{'s' * (n > 1)}" for n, rate in rates.items())
    section.ok(f"Decoding, images/s: {listed}.")


def _decode_rate(images: list[bytes], side: int, threads: int) -> float:
    """Images a second that so many threads decode."""
    end = time.perf_counter() + SECONDS / 4

    def decode(first: int) -> int:
        out, done = np.empty((side, side, 3), np.uint8), 0
        while time.perf_counter() < end:
            decode_into(images[(first + done) % len(images)], out)
            done += 1
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(decode, range(threads)))
    return total / (time.perf_counter() - began)


def _check_loader(section: Section, shards: ShardSet, chosen: Chosen, config: GANConfig) -> None:
    source = batches(shards, chosen, config)
    began = time.perf_counter()
    # the first batches open slides, which happens once a slide
    opened = min(len(chosen.slides), config.window_slides)
    for _ in islice(source, 1 + -(-opened // config.batch_size)):
        if time.perf_counter() - began > SECONDS:
            break
    began, images = time.perf_counter(), 0
    for batch in source:
        images += len(batch.images)
        if (seconds := time.perf_counter() - began) > SECONDS:
            break
    del source  # ends its threads or processes
    section.figures["loader_images_per_second"] = images / seconds
    made = f"{config.loader_workers} worker processes" if config.loader_workers else "threads"
    section.ok(f"The whole loader, batches of {config.batch_size} made in {made}: {images / seconds:,.0f} images/s.")
