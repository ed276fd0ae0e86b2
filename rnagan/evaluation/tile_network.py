"""The small network that looks at tiles: which tissue they show, which profile they belong to."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 64)
BATCH = 64
_AT_A_TIME = 256  # tiles, where nothing is learned


def tile_network(outputs: int, seed: int) -> nn.Module:
    """Strided convolutions with GroupNorm, (n, 3, H, W) in ±1 to (n, outputs); torch's own randomness is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for c_in, c_out in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.GroupNorm(8, c_out), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], outputs))


def to_tensor(tiles: NDArray[np.uint8]) -> Tensor:
    """Tiles (n, H, W, 3) uint8 to (n, 3, H, W) in ±1."""
    return torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def flipped(x: Tensor, random: np.random.Generator) -> Tensor:
    """A batch of tiles as it is, or flipped up and down, left and right, or both."""
    x = x.flip(2) if random.random() < 0.5 else x
    return x.flip(3) if random.random() < 0.5 else x


@torch.no_grad()
def outputs_of(network: nn.Module, tiles: NDArray[np.uint8]) -> Tensor:
    """What the network says of tiles (n, H, W, 3) uint8, (n, outputs); it is left in evaluation mode."""
    network.eval()
    return torch.cat(list(_in_parts(network, tiles)))


def _in_parts(network: nn.Module, tiles: NDArray[np.uint8]) -> Iterator[Tensor]:
    for first in range(0, len(tiles), _AT_A_TIME):
        yield network(to_tensor(tiles[first : first + _AT_A_TIME]))
