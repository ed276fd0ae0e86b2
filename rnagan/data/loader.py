"""The loader: batches of decoded tiles in the order of the endless sequence, made ahead in threads or processes.

Profiles go the same way (rnagan/data/profile_shards.py): what is decoded, and into what, the reader says.
"""

import collections
import dataclasses
import functools
import itertools
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import forkserver
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from rnagan.data.packed import Layout, Packed, Row
from rnagan.data.reader import Batch, Replaced, ShardReader, TileReader
from rnagan.data.sampler import Indices, Order
from rnagan.data.shard_schema import ProfileKind, TileKind
from rnagan.data.storage import Storage
from rnagan.io.tables import first_few
from rnagan.runtime.distributed import own_cores
from rnagan.runtime.ends import SIGNALS, serve_parent, signals_ignored


class BatchMemory:
    """Uninitialised tensors of one shape and dtype. `keep`: how much unused memory is kept at most, in tensors."""

    def __init__(self, shape: tuple[int, ...], keep: int, dtype: npt.DTypeLike = np.uint8) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._free: collections.deque[npt.NDArray] = collections.deque(maxlen=keep)

    def take(self) -> Tensor:
        """A tensor whose memory comes back when it and all that shares it are gone."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self.shape, self.dtype)
        lent = memory.view()  # the tensor, and whatever is made of it, holds this view and not the array itself
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return torch.from_numpy(lent)

    def fresh(self, pin_memory: bool = False) -> Tensor:
        """A tensor with memory of its own; of pinned memory torch itself keeps what was used."""
        dtype = torch.from_numpy(np.empty(0, self.dtype)).dtype
        return torch.empty(self.shape, dtype=dtype, pin_memory=pin_memory)


MOST_THREADS = 8  # more decode no faster than a GPU asks for
REMOTE_THREADS = 32  # they mostly wait for the network
TILES_A_TASK = 8
IMAGES_LOCATED = 1024


class Beside(Protocol):
    """What is made beside the items of a batch, or of them, by the same threads, and lies in the same memory."""

    @property
    def rows(self) -> Mapping[str, Row]:
        """What it is of one item, by name."""

    def fill(self, start: int, out: Mapping[str, npt.NDArray]) -> None:
        """Write the rows of images `start` … `start + n − 1` into `out`, which has n of each; "items" are there."""


@dataclasses.dataclass(frozen=True)
class Loading:
    """How batches are made. Nothing here changes what is in them, but for damaged tiles and `transform`.

    `threads` decode straight into the batch (0: the cores of this process, at most 8; 32 for a remote set). `workers`
    above 0 are processes that do it instead, for a heavy `transform`, which then runs there: moving batches between
    processes costs more than decoding. `prefetch` batches are made ahead (by each worker). `skip_corrupt` replaces
    damaged tiles by neighbours, up to `max_corrupt` of all tiles in use; otherwise the first one raises. `beside`: what
    else a batch holds. `shift_seed`: tiles stored with a margin are shifted in it at random, by this seed; None: they
    are cut out of the middle.
    """

    threads: int = 0
    workers: int = 0
    prefetch: int = 2
    pin_memory: bool = False
    skip_corrupt: bool = False
    max_corrupt: float = 0.001
    transform: Callable[[Any], Any] | None = None  # of batches
    beside: Beside | None = None
    shift_seed: int | None = None


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
    return batches(reader, order, start, batch_size, rank, processes, loading)


def batches(
    reader: ShardReader,
    order: Order,
    start: int,
    batch_size: int,
    rank: int = 0,
    processes: int = 1,
    loading: Loading | None = None,
) -> Generator[Any, None, None]:
    """As `tile_batches`, of what a reader reads, as it hands them out (`ShardReader.batch`)."""
    if batch_size % processes:
        raise ValueError(f"batch_size {batch_size} can't be shared evenly by {processes} processes.")
    loading = loading or Loading()
    pipeline: Iterable[Any] = wds.DataPipeline(
        functools.partial(_plans, order, start, batch_size, rank, processes),
        functools.partial(_load, reader=reader, loading=loading, share=batch_size // processes),
        *([wds.map(loading.transform)] if loading.transform else []),
    )
    if loading.workers:
        with signals_ignored(*SIGNALS):  # without their server workers would end
            forkserver.ensure_running()
        loader = wds.WebLoader(
            _OwnBatches(pipeline),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=loading.workers,
            prefetch_factor=max(1, loading.prefetch),
            pin_memory=loading.pin_memory,
            # A forked copy of a process with threads may hang, and a spawned worker aborts when it is ended.
            multiprocessing_context="forkserver",
        )
        pipeline = _of_workers(loader)
    return _bounded(iter(pipeline), order.epoch_length, loading, reader)


class _OwnBatches(IterableDataset):
    """The batches of a worker process: with k workers, every kth one."""

    def __init__(self, pipeline: wds.DataPipeline) -> None:
        self.pipeline = pipeline

    def __iter__(self) -> Iterator[Any]:
        serve_parent()
        return iter(self.pipeline)


def _of_workers(loader: Iterable[Any]) -> Generator[Any, None, None]:
    """What a loader hands out. An error comes without the frames below, which would keep the loader from ending its
    workers: it would wait 20 s for them."""
    batches = iter(loader)
    try:
        yield from batches
    except Exception as error:
        raise error.with_traceback(None)  # noqa: B904, it is the same one
    finally:
        del batches


def _as_it_is(batch: Any) -> Any:
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


def _load(plans: Iterable[_Plan], reader: ShardReader, loading: Loading, share: int) -> Iterator[Any]:
    """Batches of `share` tiles as planned, in that order; while one is used the next `prefetch` are made."""
    layout = Layout(share, reader.rows | (dict(loading.beside.rows) if loading.beside else {}))
    memory = BatchMemory((layout.nbytes,), loading.prefetch + 2)
    if get_worker_info():  # it has a process to itself, and torch's queue, which pins
        for plan in plans:
            yield _begin(_Here(), reader, plan, Packed(layout, memory.fresh()), loading).finish()
        return
    # torch keeps pinned memory for the next batch by itself
    take = functools.partial(memory.fresh, pin_memory=True) if loading.pin_memory else memory.take
    pool = ThreadPoolExecutor(loading.threads or default_threads(reader.shards.storage), thread_name_prefix="decode")
    begun: collections.deque[_Begun] = collections.deque()
    try:
        for plan in plans:
            begun.append(_begin(pool, reader, plan, Packed(layout, take()), loading))
            if len(begun) > loading.prefetch:
                yield begun.popleft().finish()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Here(Executor):
    """Runs each call at once, in this thread."""

    def submit(self, call: Callable, /, *args: Any, **kwargs: Any) -> Future:
        done: Future = Future()
        done.set_result(call(*args, **kwargs))
        return done


class _Begun(NamedTuple):
    """A batch in the making."""

    reader: ShardReader
    plan: _Plan
    packed: Packed
    parts: list[Future[list[Replaced]]]

    def finish(self) -> Any:
        replaced = tuple(one for part in self.parts for one in part.result())
        return self.reader.batch(self.plan.start, self.packed, replaced)


def _begin(pool: Executor, reader: ShardReader, plan: _Plan, packed: Packed, loading: Loading) -> _Begun:
    count = len(plan.tiles)
    out = {name: packed.field(name).numpy() for name in packed.layout.rows}
    parts = [
        pool.submit(_make_part, reader, plan, out, range(at, min(at + TILES_A_TASK, count)), loading)
        for at in range(0, count, TILES_A_TASK)
    ]
    return _Begun(reader, plan, packed, parts)


def _make_part(
    reader: ShardReader, plan: _Plan, out: Mapping[str, npt.NDArray], part: range, loading: Loading
) -> list[Replaced]:
    """Make some rows of a batch. Of a replaced tile the batch says what it holds instead."""
    replaced, corners = [], None
    if loading.shift_seed is not None:
        corners = reader.draw_corners(loading.shift_seed, plan.start + part.start, len(part))
    for at in part:
        slide, k = plan.tiles[at].tolist()
        corner = None if corners is None else tuple(corners[at - part.start].tolist())
        if not loading.skip_corrupt:
            reader.decode(slide, k, out["items"][at], corner)
        else:
            used, problem = reader.decode_or_replace(slide, k, out["items"][at], corner)
            if problem is not None:
                replaced.append(Replaced(plan.start + at, reader.slides[slide], reader.place(slide, k), problem))
            slide, k = used
        out["places"][at] = reader.labels(slide, k)
    if loading.beside:
        loading.beside.fill(plan.start + part.start, {name: rows[part.start : part.stop] for name, rows in out.items()})
    return replaced


def default_threads(storage: Storage) -> int:
    """Threads that read and decode where nobody says how many."""
    return REMOTE_THREADS if storage.is_remote else min(MOST_THREADS, own_cores())


def check_damaged(
    damaged: Collection[tuple[str, int]], in_use: int, most: float, kind: type[TileKind] | type[ProfileKind]
) -> None:
    """Refuse a set of which more than the share `most` of the items in use was found damaged (slides and numbers)."""
    if len(damaged) > most * in_use:
        names = first_few(f"{slide} {kind.item} {k}" for slide, k in sorted(damaged))
        raise ValueError(
            f"{len(damaged):,} of {in_use:,} {kind.item}s are damaged ({names}), more than the share of {most:g} that "
            f"may be skipped; run rnagan check-shards and {kind.again}."
        )


def _bounded(batches: Iterator[Any], in_use: int, loading: Loading, reader: ShardReader) -> Generator[Any, None, None]:
    """The batches, until more different tiles were damaged than may be; the other processes' are the trainer's part."""
    damaged: set[tuple[str, int]] = set()
    for batch in batches:
        damaged |= {(one.slide, one.tile) for one in batch.replaced}
        check_damaged(damaged, in_use, loading.max_corrupt, reader.kind)
        yield batch
