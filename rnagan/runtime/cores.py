"""How many CPU cores are this process's share."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def own_cores() -> int:
    """Cores that this process may use, shared among those that a launcher started on this machine; at least 1."""
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // processes_here)


def keep_freed_memory() -> None:
    """Let this process use its freed memory again instead of giving it back, where the C library is glibc.

    It gives back large blocks at once, and the system hands them out anew page by page, zeroed: for gradients and casts
    of hundreds of millions of weights that takes a third of a step (measured on a CPU).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
