"""Ours in a fresh process: seconds from opening a set to the first batch, and what memory it takes after some batches.

`shards`, with a `cohort.csv` where tiles have profiles of their own; `epochs` that have passed; `batches` to read;
`threads`, `workers`; `cold`: the indexes are read from disk.
Memory is what no other process shares. With `idle` it does nothing: while another such process is there, the pages of
libraries are shared for sure, and don't come and go with what else runs on the machine.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import webdataset as wds
from serving import Request, serve
from torch.utils.data import IterableDataset

from rnagan.cohort.table import read_cohort
from rnagan.data.index import open_dataset
from rnagan.data.loader import Loading, tile_batches
from rnagan.data.reader import TileReader
from rnagan.data.sampler import TileOrder
from rnagan.data.selection import select

MB = 1e6
TORCHS_NAME = "pt_data_worker"  # of worker processes
CONTEXT = "forkserver"  # as our loader starts them


class Idle(IterableDataset):
    """For a worker process that has imported everything and opened nothing."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        while True:
            yield torch.zeros(1)


def run(request: Request) -> dict[str, Any]:
    if request.get("idle"):
        return {}
    if request["cold"]:
        forget(Path(request["shards"]))
    idle_child = child_of_idle() if request["workers"] else None
    before, resident = unique_bytes(psutil.Process()), psutil.Process().memory_info().rss
    cpu, began = time.process_time(), time.perf_counter()
    shards = open_dataset(request["shards"])
    if shards.profiles is None:
        counts = shards.slides["tiles"].to_numpy(np.int64)
        reader, order = TileReader(shards, shards.slides["slide"].tolist(), counts), TileOrder(counts, seed=0)
    else:
        selection = select(shards, read_cohort(Path(request["shards"]) / "cohort.csv"), "train", sys.maxsize)
        reader, order = selection.reader(shards), TileOrder(selection.counts, seed=0)
    start = int(request["epochs"] * order.epoch_length)
    loading = Loading(threads=request["threads"], workers=request["workers"])
    batches = tile_batches(reader, order, start, request["batch_size"], loading=loading)
    batch = next(batches)
    first_batch = time.perf_counter() - began
    assert batch.start == start
    for _ in range(request["batches"] - 1):
        batch = next(batches)
    answer = {
        "first_batch_s": first_batch,
        "all_batches_s": time.perf_counter() - began,
        "memory_mb": (unique_bytes(psutil.Process()) - before) / MB,
        "peak_mb": (peak_bytes() - resident) / MB,
        "cpu_s": time.process_time() - cpu,
        "before_mb": before / MB,
        "tiles": order.epoch_length,
        "window": order.window,
    }
    if idle_child is not None:
        worker_mb = (unique_bytes(worker_process()) - idle_child) / MB
        answer |= {"worker_mb": worker_mb, "idle_worker_mb": idle_child / MB}
    return answer


def child_of_idle() -> int:
    """Bytes of a worker process that idles."""
    loader = iter(wds.WebLoader(Idle(), batch_size=None, num_workers=1, multiprocessing_context=CONTEXT))
    for _ in range(3):
        next(loader)
    return unique_bytes(worker_process())


def worker_process() -> psutil.Process:
    """The only worker, without the processes that serve it."""
    (worker,) = [child for child in psutil.Process().children(recursive=True) if child.name() == TORCHS_NAME]
    return worker


def unique_bytes(process: psutil.Process) -> int:
    return process.memory_full_info().uss


def peak_bytes() -> int:
    """The most that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget(folder: Path) -> None:
    """Drop tables and indexes from the page cache."""
    for path in (*folder.glob("*.parquet"), *folder.glob("*.json")):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    serve(run)
