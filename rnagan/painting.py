"""Painting tiles with a generator: conditions and addressed noise in, uint8 tiles out."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.config import GANConfig
from rnagan.models.condition import draw_noise, generator_input
from rnagan.pictures import to_uint8


@torch.no_grad()
def paint(
    config: GANConfig, generator: nn.Module, c: Tensor | None, count: int, seed: int, purpose: str, batch_size: int = 64
) -> NDArray[np.uint8]:
    """Paint `count` tiles of one condition c (1, condition_width): uint8 (count, H, W, 3).

    Tile k depends on (seed, purpose, k) and c alone. Models that standardise over the batch are the exception: their
    tile also depends on the tiles beside it, which is the released code's fault and kept for the contrast.
    """
    parameter = next(generator.parameters())
    width = 0 if c is None else c.shape[1]
    pieces = []
    for first in range(0, count, batch_size):
        n = min(batch_size, count - first)
        noise = draw_noise(config, purpose, first, n, width, seed).to(parameter)
        code = generator_input(config, None if c is None else c.expand(n, -1), noise)
        pieces.append(to_uint8(generator(code).float().cpu().numpy()))
    return np.concatenate(pieces)
