"""Randomness addressed by what it is for, never carried from step to step.

A draw is a function of (seed, purpose, number) alone, so a resumed run, another batch size or another
number of processes sees the same draws (DESIGN.md, "Randomness is addressed").
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_WORDS_PER_BLOCK = 4  # Philox4x64 yields four 64-bit words per counter value


def stream_key(seed: int, purpose: str) -> int:
    """A 128-bit Philox key for one purpose of one seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:16], "little")


def generator(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    """A NumPy generator for draw `number` of `purpose`; use it for draws of varying length."""
    return np.random.default_rng([stream_key(seed, purpose), number])


def uniform(seed: int, purpose: str, start: int, count: int, width: int) -> NDArray[np.float64]:
    """Uniform draws in (0, 1) for items `start` … `start + count - 1`, shape (count, width), float64.

    Row k depends on (seed, purpose, start + k) and `width` only: `uniform(s, p, 0, 10, w)[4:6]` equals
    `uniform(s, p, 4, 2, w)`.
    """
    blocks = -(-width // _WORDS_PER_BLOCK)
    stream = np.random.Philox(key=stream_key(seed, purpose))
    stream.advance(start * blocks)
    words = stream.random_raw(count * blocks * _WORDS_PER_BLOCK).reshape(count, blocks * _WORDS_PER_BLOCK)[:, :width]
    # 52 bits and a half: all of them fit a float64, so neither 0 nor 1 can come of rounding
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def byte_draws(seed: int, purpose: str, start: int, count: int, width: int) -> NDArray[np.uint8]:
    """Uniform bytes addressed like `uniform`, shape (count, width): an eighth of its time, for masks."""
    blocks = -(-width // (_WORDS_PER_BLOCK * 8))
    stream = np.random.Philox(key=stream_key(seed, purpose))
    stream.advance(start * blocks)
    words = stream.random_raw(count * blocks * _WORDS_PER_BLOCK).astype("<u8", copy=False)
    return words.view(np.uint8).reshape(count, -1)[:, :width]


def normal(seed: int, purpose: str, start: int, count: int, width: int) -> NDArray[np.float64]:
    """Standard normal draws addressed like `uniform`, shape (count, width), float64."""
    return ndtri(uniform(seed, purpose, start, count, width))
