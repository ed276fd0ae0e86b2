"""Worker processes whose death costs the user one sentence."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool


@contextlib.contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes; leaving it cancels what is not begun. A dead worker raises `ChildProcessError`."""
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    except BrokenProcessPool:
        raise ChildProcessError(
            "A worker process died, perhaps for lack of memory; start again with fewer --processes: "
            "what is finished is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
