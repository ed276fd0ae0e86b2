"""Generators: an input vector in, an RGB tile in [-1, 1] out."""

import math

import torch
from torch import Tensor, nn

MAX_CHANNELS = 256


class UpsampleGenerator(nn.Module):
    """Up-sample and convolve from 4 px to `resolution`: no transposed convolution, so no checkerboard.

    Input (n, input_width) float; output (n, 3, resolution, resolution) in [-1, 1].
    """

    def __init__(self, input_width: int, resolution: int, width: int, norm: str) -> None:
        super().__init__()
        channels = _channels(resolution, width)
        self.start = nn.Linear(input_width, channels[0] * 16)
        self.first = nn.Sequential(_norm(norm, channels[0]), nn.LeakyReLU(0.2))
        blocks = []
        for c_in, c_out in zip(channels, channels[1:], strict=False):
            blocks += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(c_in, c_out, 3, padding=1),
                       _norm(norm, c_out), nn.LeakyReLU(0.2)]
        self.blocks = nn.Sequential(*blocks)
        self.to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        x = self.start(code).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.to_rgb(self.blocks(self.first(x))))


class DCGenerator(nn.Module):
    """DCGAN's generator of transposed convolutions (Radford et al. 2015), as the paper's.

    Input (n, input_width) float; output (n, 3, resolution, resolution) in [-1, 1].
    """

    def __init__(self, input_width: int, resolution: int, width: int, norm: str) -> None:
        super().__init__()
        channels = _channels(resolution // 2, width, limit=math.inf)
        layers: list[nn.Module] = [nn.ConvTranspose2d(input_width, channels[0], 4), _norm(norm, channels[0]), nn.LeakyReLU(0.2)]
        for c_in, c_out in zip(channels, channels[1:], strict=False):
            layers += [nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1), _norm(norm, c_out), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 3, 4, stride=2, padding=1), nn.Tanh())

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code[:, :, None, None])


def _channels(resolution: int, width: int, limit: float = MAX_CHANNELS) -> list[int]:
    """Channels of the feature maps from 4 px up to `resolution`, doubling towards 4 px up to `limit`."""
    doublings = int(math.log2(resolution // 4))
    return [int(min(width * 2**k, max(limit, width))) for k in range(doublings, -1, -1)]


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()
