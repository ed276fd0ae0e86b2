"""Shared memory and open files: limits of the operating system that only show once a run is under way."""

import os
import resource
from pathlib import Path

from rnagan.config import GANConfig
from rnagan.doctor.report import Section

SHARED_MEMORY = Path("/dev/shm")
SMALL_SHARED_BYTES = 1 << 28  # less than this is a container's default (64 MB); NCCL alone may want more
OTHER_FILES = 512  # that a process has open besides shards: libraries, sockets, MLflow


def check_shared_memory(section: Section, config: GANConfig, tile_px: int, folder: Path = SHARED_MEMORY) -> None:
    """Worker processes hand their batches over in it."""
    try:
        found = os.statvfs(folder)
    except OSError:
        section.warn(
            f"There is no {folder}, so worker processes can't hand over batches.",
            "keep --loader-workers 0, the default",
        )
        return
    size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    of_worker = worker_bytes(config, tile_px)
    needed = config.loader_workers * of_worker
    section.figures |= {
        "shared_memory_bytes": size,
        "shared_memory_free_bytes": free,
        "shared_memory_of_worker_bytes": of_worker,
        "shared_memory_needed_bytes": needed,
    }
    there = f"{folder}: {free / 1e9:,.2f} of {size / 1e9:,.2f} GB free"
    formula = (
        f"a worker process holds (prefetch_batches + 1) × batch_size × 3 × tile_px² bytes of it, here "
        f"({config.prefetch_batches} + 1) × {config.batch_size} × 3 × {tile_px}² = {of_worker / 1e6:,.0f} MB"
    )
    larger = "enlarge it (docker run --shm-size=8g; mount -o remount,size=8g /dev/shm)"
    if needed > free:
        section.problem(
            f"{there}, and {config.loader_workers} worker processes need {needed / 1e9:,.2f} GB: {formula}.",
            f"{larger}, or use --loader-workers 0: threads need none",
        )
    elif size < SMALL_SHARED_BYTES:
        section.warn(f"{there}: little; {formula}, and processes on several GPUs talk through it too.", larger)
    elif config.loader_workers:
        section.ok(f"{there}; {config.loader_workers} worker processes need {needed / 1e9:,.2f} GB: {formula}.")
    else:
        section.ok(f"{there}, enough for {free // of_worker:,} worker processes (now 0: threads need none); {formula}.")


def worker_bytes(config: GANConfig, tile_px: int) -> int:
    """Shared memory that the batches of one worker process take, on one training process."""
    return (config.prefetch_batches + 1) * config.batch_size * 3 * tile_px**2


def check_open_files(section: Section, config: GANConfig) -> None:
    """The loader keeps the tars of its window open; it raises the soft limit itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    section.figures |= {"open_files_soft": soft, "open_files_hard": None if unlimited else hard}
    wanted = config.window_slides + OTHER_FILES
    told = "no limit" if unlimited else f"up to {hard:,}"
    if unlimited or hard >= wanted:
        section.ok(f"Open files: {told}; the loader keeps up to window_slides = {config.window_slides:,} shards open.")
    else:
        section.warn(
            f"Open files: {told}; the loader would keep window_slides = {config.window_slides:,} shards open, and now "
            "opens and closes them again and again.",
            f"ulimit -n {wanted} (docker run --ulimit nofile={wanted}), or a smaller --window-slides",
        )
