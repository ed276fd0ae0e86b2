"""The loader: batches of decoded tiles in the order of the endless sequence, made ahead in threads or processes."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from rnagan.cores import own_cores
from rnagan.data.batch_memory import BatchMemory
from rnagan.data.order import Indices, Order
from rnagan.data.reader import TileReader
from rnagan.data.storage import Storage
from rnagan.tables import first_few

MOST_THREADS = 8  # more decode no faster than a GPU asks for
REMOTE_THREADS = 32  # they mostly wait for the network
TILES_A_TASK = 8
IMAGES_LOCATED = 1024


class Replaced(NamedTuple):
    """A damaged tile that a neighbour stands in for."""

    number: int  # of the image in the sequence
    slide: str
    tile: int
    problem: str


class Batch(NamedTuple):
    """Tiles of images `start` … `start + n − 1` of the endless sequence."""

    start: int
    images: Tensor  # (n, 3, H, W) uint8, channels-last memory, pinned where a GPU is used
    slides: Tensor  # (n,) int64, rows of the selection's table
    tiles: Tensor  # (n,) int64, numbers of the tiles in their slides, in stored order
    replaced: tuple[Replaced, ...] = ()


@dataclasses.dataclass(frozen=True)
class Loading:
    """How batches are made. Nothing here changes what is in them, but for damaged tiles and `transform`.

    `threads` decode straight into the batch (0: the cores of this process, at most 8; 32 for a remote set). `workers`
    above 0 are processes that do it instead, for a heavy `transform`, which then runs there: moving batches between
    processes costs more than decoding. `prefetch` batches are made ahead (by each worker). `skip_corrupt` replaces
    damaged tiles by neighbours, up to `max_corrupt` of all tiles in use; otherwise the first one raises.
    """

    threads: int = 0
    workers: int = 0
    prefetch: int = 2
    pin_memory: bool = False
    skip_corrupt: bool = False
    max_corrupt: float = 0.001
    transform: Callable[[Batch], Batch] | None = None


class _Plan(NamedTuple):
    start: int
    tiles: Indices  # (n, 2) slide and tile


def tile_batches(
    reader: TileReader,
    order: Order,
    start: int,
    batch_size: int,
    rank: int = 0,
    processes: int = 1,
    loading: Loading | None = None,
) -> Iterator[Batch]:
    """Endless batches of this process from image number `start` on.

    Global batch b is images start + bB … start + (b+1)B−1; each process takes its slice, so the union over processes is
    the same for any number of them; B must be divisible by `processes`. `start` may be any image number.

    Damaged tiles raise `DamagedTile` or `DamagedShard`, or are replaced as `loading` says; too many raise `ValueError`.
    """
    if batch_size % processes:
        raise ValueError(f"batch_size {batch_size} can't be shared evenly by {processes} processes.")
    loading = loading or Loading()
    pipeline = wds.DataPipeline(
        functools.partial(_plans, order, start, batch_size, rank, processes),
        functools.partial(_load, reader=reader, loading=loading, share=batch_size // processes),
        *([wds.map(loading.transform)] if loading.transform else []),
    )
    if loading.workers:
        pipeline = wds.WebLoader(
            _OwnBatches(pipeline),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=loading.workers,
            prefetch_factor=max(1, loading.prefetch),
            pin_memory=loading.pin_memory,
            # A forked copy of a process with threads may hang, and a spawned worker aborts when it is told to end.
            multiprocessing_context="forkserver",
        )
    return _bounded(iter(pipeline), order.epoch_length, loading)


class _OwnBatches(IterableDataset):
    """The batches of a worker process: with k workers, every kth one."""

    def __init__(self, pipeline: wds.DataPipeline) -> None:
        self.pipeline = pipeline

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.pipeline)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _plans(order: Order, start: int, batch_size: int, rank: int, processes: int) -> Iterator[_Plan]:
    """What each batch of this process holds, in a worker process each of its own; many are located at a time."""
    worker = get_worker_info()
    turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
    share, at_a_time = batch_size // processes, -(-IMAGES_LOCATED // batch_size)
    for first in itertools.count(0, at_a_time):
        tiles = order.locate(start + first * batch_size, at_a_time * batch_size)
        for number in range(at_a_time):
            if (first + number) % turns == turn:
                at = number * batch_size + rank * share
                yield _Plan(start + first * batch_size + at, tiles[at : at + share])


def _load(plans: Iterable[_Plan], reader: TileReader, loading: Loading, share: int) -> Iterator[Batch]:
    """Batches of `share` tiles as planned, in that order; while one is used the next `prefetch` are made."""
    shape = (share, reader.shards.tile_px, reader.shards.tile_px, 3)
    new = functools.partial(torch.empty, shape, dtype=torch.uint8, pin_memory=loading.pin_memory)
    if get_worker_info():  # it has a process to itself, and torch's queue, which pins
        for plan in plans:
            yield _begin(_Here(), reader, plan, new(pin_memory=False), loading.skip_corrupt).finish()
        return
    # torch keeps pinned memory for the next batch by itself
    take = new if loading.pin_memory else BatchMemory(shape, keep=loading.prefetch + 2).take
    pool = ThreadPoolExecutor(loading.threads or default_threads(reader.shards.storage), thread_name_prefix="decode")
    begun: collections.deque[_Begun] = collections.deque()
    try:
        for plan in plans:
            begun.append(_begin(pool, reader, plan, take(), loading.skip_corrupt))
            if len(begun) > loading.prefetch:
                yield begun.popleft().finish()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Here(Executor):
    """Does at once what it is given."""

    def submit(self, call: Callable, /, *args: Any, **kwargs: Any) -> Future:
        done: Future = Future()
        done.set_result(call(*args, **kwargs))
        return done


class _Begun(NamedTuple):
    """A batch in the making."""

    plan: _Plan
    pixels: Tensor  # (n, H, W, 3) uint8
    parts: list[Future[list[Replaced]]]

    def finish(self) -> Batch:
        replaced = tuple(one for part in self.parts for one in part.result())
        slides, tiles = torch.from_numpy(self.plan.tiles).T.contiguous()
        return Batch(self.plan.start, self.pixels.permute(0, 3, 1, 2), slides, tiles, replaced)


def _begin(pool: Executor, reader: TileReader, plan: _Plan, pixels: Tensor, skip_corrupt: bool) -> _Begun:
    count = len(plan.tiles)
    parts = [
        pool.submit(_decode_part, reader, plan, pixels, range(at, min(at + TILES_A_TASK, count)), skip_corrupt)
        for at in range(0, count, TILES_A_TASK)
    ]
    return _Begun(plan, pixels, parts)


def _decode_part(reader: TileReader, plan: _Plan, pixels: Tensor, part: range, skip_corrupt: bool) -> list[Replaced]:
    """Decode some tiles of a batch into it. A replaced one changes the plan: the batch says what it holds."""
    out, replaced = pixels.numpy(), []
    for at in part:
        slide, k = plan.tiles[at].tolist()
        if not skip_corrupt:
            reader.decode(slide, k, out[at])
            continue
        used, problem = reader.decode_or_replace(slide, k, out[at])
        if problem is not None:
            plan.tiles[at] = used
            replaced.append(Replaced(plan.start + at, reader.slides[slide], k, problem))
    return replaced


def default_threads(storage: Storage) -> int:
    """Threads that read and decode where nobody says how many."""
    return REMOTE_THREADS if storage.is_remote else min(MOST_THREADS, own_cores())


def _bounded(batches: Iterator[Batch], tiles_in_use: int, loading: Loading) -> Iterator[Batch]:
    """The batches, until more different tiles were damaged than may be."""
    damaged: set[tuple[str, int]] = set()
    for batch in batches:
        damaged |= {(one.slide, one.tile) for one in batch.replaced}
        if len(damaged) > loading.max_corrupt * tiles_in_use:
            names = first_few(f"{slide} tile {k}" for slide, k in sorted(damaged))
            raise ValueError(
                f"{len(damaged):,} of {tiles_in_use:,} tiles are damaged ({names}), more than the share of "
                f"{loading.max_corrupt:g} that may be skipped; run shards/check_shards.py and build these slides again."
            )
        yield batch
