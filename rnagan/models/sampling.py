"""Generating tiles with a generator: conditions and addressed noise in, uint8 tiles out."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.config.gan import GANConfig
from rnagan.models.conditioning import draw_noise, generator_input


def generate(
    config: GANConfig,
    generator: nn.Module,
    c: Tensor | None,
    count: int,
    seed: int,
    purpose: str,
    batch_size: int = 64,
    truncation: float = 1.0,
) -> NDArray[np.uint8]:
    """Generate `count` tiles of one condition c (1, condition_width): uint8 (count, H, W, 3).

    `truncation`, 0 < ψ ≤ 1, trades diversity for typical tiles: all noise is multiplied by ψ and the condition is left
    alone. Brock et al. 2019 (BigGAN, section 3.1) redraw noise beyond a bound; scaling it instead keeps a tile's noise
    the same draw at every ψ, as Karras et al. 2019 (StyleGAN, appendix B) do with their intermediate latent.

    Tile k depends on (seed, purpose, k) and c alone. Models that standardise over the batch are the exception: their
    tile also depends on the tiles beside it, which is the released code's fault and kept for the contrast.
    """
    check_truncation(truncation)
    width = 0 if c is None else c.shape[1]
    pieces = []
    for first in range(0, count, batch_size):
        n = min(batch_size, count - first)
        noise = draw_noise(config, purpose, first, n, width, seed)
        pieces.append(generate_batch(config, generator, None if c is None else c.expand(n, -1), noise, truncation))
    return np.concatenate(pieces)


@torch.no_grad()
def generate_batch(
    config: GANConfig, generator: nn.Module, c: Tensor | None, noise: Tensor, truncation: float = 1.0
) -> NDArray[np.uint8]:
    """Generate one tile of each condition c (n, condition_width) with its noise (n, noise_width): uint8 (n, H, W,
    3)."""
    noise = noise.to(next(generator.parameters())) * truncation
    return to_uint8(generator(generator_input(config, c, noise)).float())


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """Images in [-1, 1], shape (n, 3, H, W), to uint8 (n, H, W, 3); rounded where they are, so that a device sends a
    quarter of the bytes."""
    x = x.permute(0, 2, 3, 1).add(1).mul_(127.5).round_().clamp_(0, 255)
    return x.to(torch.uint8, memory_format=torch.contiguous_format).cpu().numpy()


def number_tiles(counts: Sequence[int] | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number tiles that stand row after row, `counts` (rows,) of each: the row of every tile, and its number there."""
    row_of = np.repeat(np.arange(len(counts)), counts)
    return row_of, np.arange(len(row_of)) - np.repeat(np.cumsum(counts) - counts, counts)


def check_truncation(truncation: float) -> None:
    """Refuse a ψ outside of 0 < ψ ≤ 1."""
    if not 0 < truncation <= 1:
        raise ValueError(f"truncation must be above 0 and at most 1, not {truncation}.")
