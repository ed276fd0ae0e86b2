"""How this process takes memory from the system."""

import contextlib
import ctypes
from collections.abc import Iterator

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let this process use its freed memory again instead of giving it back, where the C library is glibc.

    It gives back large blocks at once, and the system hands them out anew page by page, zeroed: for gradients and casts
    of hundreds of millions of weights that takes a third of a step (measured on a CPU).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


@contextlib.contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """A block (or, as a decorator, a function) after which this process gives the memory that it has freed back to the
    system, where the C library is glibc.

    After `keep_freed_memory` it would hold all of it, and more after each block: what one block allocates doesn't fit
    the holes that the last one left.
    """
    try:
        yield
    finally:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
