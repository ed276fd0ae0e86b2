"""What decoding alone would take: simplejpeg into one buffer that is used again, from JPEGs in memory.

`option.processes` of them, each on a core of its own, start together; their tiles are added up.
"""

import multiprocessing
import os
import statistics
import time
from typing import Any

import numpy as np
import simplejpeg
from measuring import stored
from serving import Request, serve

SIDE_PX = 256
_jpegs: list[bytes] = []  # forked processes share them


def run(request: Request) -> dict[str, Any]:
    if not _jpegs:
        _jpegs.extend(jpeg for _, jpegs in stored(request["store"]) for _, jpeg in jpegs)
    cores = sorted(os.sched_getaffinity(0))[: request["option"]["processes"]]
    together, done = multiprocessing.Barrier(len(cores)), multiprocessing.SimpleQueue()
    processes = [
        multiprocessing.Process(target=_decode, args=(core, number, len(cores), request, together, done))
        for number, core in enumerate(cores)
    ]
    for process in processes:
        process.start()
    counted = [done.get() for _ in processes]
    for process in processes:
        process.join()
    return {"tiles": sum(tiles for tiles, _ in counted), "seconds": statistics.mean(took for _, took in counted)}


def _decode(core: int, number: int, processes: int, request: Request, together: Any, done: Any) -> None:
    """Every so-many-th tile, over and over."""
    os.sched_setaffinity(0, [core])
    own, buffer = _jpegs[number::processes], np.empty((SIDE_PX, SIDE_PX, 3), np.uint8)
    _decode_for(request["warm_up_seconds"], own, buffer)
    together.wait()
    done.put(_decode_for(request["seconds"], own, buffer))


def _decode_for(seconds: float, jpegs: list[bytes], buffer: np.ndarray) -> tuple[int, float]:
    tiles, passed, began = 0, 0.0, time.perf_counter()
    while passed < seconds:
        for at in range(tiles, tiles + 64):
            simplejpeg.decode_jpeg(jpegs[at % len(jpegs)], colorspace="RGB", buffer=buffer)
        tiles, passed = tiles + 64, time.perf_counter() - began
    return tiles, passed


if __name__ == "__main__":
    serve(run)
