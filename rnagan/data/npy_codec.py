"""Stored profiles to values: NumPy's .npy, format 1.0, of one float32 a gene. Pickled objects are never opened."""

import functools
import io
import struct
import tokenize

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

DTYPE = np.dtype("<f4")
_BROKEN = (  # what NumPy's parser of headers raises
    ValueError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    RecursionError,
    MemoryError,
)


def encode_profile(values: NDArray[np.float32]) -> bytes:
    """A profile (genes,) float32 as .npy bytes, each bit kept."""
    assert values.ndim == 1 and values.dtype == np.float32
    return _header(len(values)) + values.astype(DTYPE, copy=False).tobytes()


def decode_profile_into(data: bytes, out: NDArray[np.float32]) -> None:
    """.npy bytes into `out` (genes,) float32. What isn't that many float32 in format 1.0 raises `ValueError`."""
    start = len(_header(len(out)))
    if not data.startswith(_header(len(out))):  # written by another program, or wrong
        start = _checked_header(data, len(out))
    if len(data) != start + out.nbytes:
        raise ValueError(f"it holds {len(data) - start:,} bytes of values, not {out.nbytes:,}")
    out[:] = np.frombuffer(data, DTYPE, offset=start)


def profile_problem(genes: int, data: bytes) -> str | None:
    """What keeps .npy bytes from being a profile of so many genes, or None. Decodes it."""
    values = np.empty(genes, np.float32)
    try:
        decode_profile_into(data, values)
    except ValueError as error:
        return f"which can't be decoded ({error})"
    return None if np.isfinite(values).all() else "which holds values that are not finite"


@functools.lru_cache(maxsize=16)
def _header(genes: int) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, np.empty(genes, DTYPE), version=(1, 0), allow_pickle=False)
    return file.getvalue()[: -genes * DTYPE.itemsize or None]


def _checked_header(data: bytes, genes: int) -> int:
    """Where the values begin, after a header that is checked."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"it is .npy of format {version[0]}.{version[1]}, not 1.0")
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
    except _BROKEN as error:
        raise ValueError(f"no .npy: {str(error).splitlines()[0] if str(error) else 'a broken header'}") from None
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never opened")
    if dtype != DTYPE:
        raise ValueError(f"it holds {dtype.str}, not {DTYPE.str}")
    if shape != (genes,) or fortran_order not in (True, False):
        raise ValueError(f"it has the shape {shape}, not ({genes},)")
    return file.tell()
