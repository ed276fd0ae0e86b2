"""Generating many tiles with a generator of any family: in batches, numbered, as uint8."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions, TileGenerator


def generate(
    generator: TileGenerator,
    c: Tensor | None,
    count: int,
    seed: int,
    purpose: str,
    batch_size: int = 64,
    options: SamplingOptions = NO_OPTIONS,
) -> NDArray[np.uint8]:
    """Generate `count` tiles of one condition c (1, condition_width): uint8 (count, H, W, 3).

    Tile k depends on (seed, purpose, k), the options and c alone. Generators whose tiles are made `together` are the
    exception: their tile also depends on the tiles beside it, which is the released code's fault and kept for the
    contrast.
    """
    asked = options.on(generator)
    pieces = []
    for first in range(0, count, batch_size):
        n = min(batch_size, count - first)
        noise = generator.draw_noise(purpose, first, n, seed)
        pieces.append(generator.tiles(None if c is None else c.expand(n, -1), noise, asked))
    return np.concatenate(pieces)


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """Images in [-1, 1], shape (n, 3, H, W), to uint8 (n, H, W, 3); rounded where they are, so that a device sends a
    quarter of the bytes."""
    x = x.permute(0, 2, 3, 1).add(1).mul_(127.5).round_().clamp_(0, 255)
    return x.to(torch.uint8, memory_format=torch.contiguous_format).cpu().numpy()


def number_tiles(counts: Sequence[int] | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number tiles that stand row after row, `counts` (rows,) of each: the row of every tile, and its number there."""
    row_of = np.repeat(np.arange(len(counts)), counts)
    return row_of, np.arange(len(row_of)) - np.repeat(np.cumsum(counts) - counts, counts)
