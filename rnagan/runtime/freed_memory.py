"""Freed memory that this process holds."""

import contextlib
import ctypes
from collections.abc import Iterator


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
