"""Generators: an input vector in, an RGB tile in [-1, 1] out."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnagan.config.gan import GANConfig
from rnagan.models.conditioning import input_width, noise_maps
from rnagan.models.reduced import enlarged, is_reduced, norm_and_film
from rnagan.models.residual import BLOCKS, ResidualBlock, keep_size, pointwise

MAX_CHANNELS = 256


def build_generator(config: GANConfig, condition_width: int) -> nn.Module:
    """The generator of a config, with fresh weights from torch's seeded generator."""
    width = input_width(config, condition_width)
    if config.generator == "dcgan":
        return DCGenerator(width, config.resolution, config.generator_width, config.generator_norm)
    kind = ResidualGenerator if config.generator == "residual" else UpsampleGenerator
    return kind(config, width)


class _GrowingGenerator(nn.Module):
    """What generators share that enlarge maps from 4 px to the tile, by a block for each of `sides` in px.

    Input (n, input_width + spatial_noise_width(resolution, grain)) float: what the tile is of and its global noise,
    then noise maps of 8, 16, … px that place nuclei and fibres anywhere alike (as StyleGAN's noise inputs, Karras et
    al. 2019). With `generator_turns` the tile is then mirrored and turned as the signs of its first three noises say,
    each of the eight ways alike. With `generator_grain` there is a noise map at every side; without, fine detail can
    come from up-sampling alone, with its period of 2 px. Output (n, 3, resolution, resolution) in [-1, 1].
    """

    sides: list[int]
    blocks: nn.ModuleList
    to_rgb: nn.Conv2d

    def __init__(self, config: GANConfig, input_width: int) -> None:
        super().__init__()
        self.noise = _Noise(input_width, config.resolution, config.generator_grain)
        self.turns = config.generator_turns
        self.channels = _channels(config.resolution, config.generator_width)
        self.start = nn.Linear(input_width, self.channels[0] * 16)

    def forward(self, code: Tensor) -> Tensor:
        code, noise = self.noise.split(code)
        x = self.start(code).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        for side, block in zip(self.sides, self.blocks, strict=True):
            x = block(x, code, noise.get(side))
        x = torch.tanh(self.to_rgb(x))
        return _turned(x, noise) if self.turns else x


class UpsampleGenerator(_GrowingGenerator):
    """Up-sample and convolve from 4 px to `resolution`: no transposed convolution, so no checkerboard.

    What the tile is of and its global noise also scale and shift every feature map (FiLM, Perez et al. 2018).
    """

    def __init__(self, config: GANConfig, input_width: int) -> None:
        super().__init__(config, input_width)
        self.sides = [8 * 2**k for k in range(len(self.channels) - 1)]
        self.blocks = nn.ModuleList(
            _Block(c_in, c_out, input_width, config.generator_norm, noisy=side in self.noise.sides)
            for side, (c_in, c_out) in zip(self.sides, pairwise(self.channels), strict=True)
        )
        self.to_rgb = nn.Conv2d(self.channels[-1], 3, 3, padding=1)


class _Noise:
    """The noise maps in a generator's input, and those made of them."""

    def __init__(self, input_width: int, resolution: int, grain: bool) -> None:
        self.input_width, self.drawn = input_width, noise_maps(resolution, grain)
        made = [self.drawn[-1] * 2**k for k in range(1, 4)] if grain else []
        self.sides = self.drawn + [side for side in made if side <= resolution]

    def split(self, code: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """The input without its maps, and the maps (n, 1, side, side) by their side in px."""
        code, *maps = code.split([self.input_width, *(side * side for side in self.drawn)], dim=1)
        noise = {side: own.unflatten(1, (1, side, side)) for side, own in zip(self.drawn, maps, strict=True)}
        finest = self.drawn[-1]
        return code, noise | {side: interleaved(noise[finest], side) for side in self.sides if side > finest}


def interleaved(noise: Tensor, side: int) -> Tensor:
    """A finer noise map (n, 1, side, side) of one (n, 1, s, s), as white at close range: drawing it would take longer
    than reading a tile.

    Each number comes (side / s)² times, 8 or more places of the coarser map apart: the copies are shifted by (k, 8 k).
    """
    times = side // noise.shape[-1]
    copies = [noise.roll((k, 8 * k), dims=(2, 3)) for k in range(times**2)]
    return F.pixel_shuffle(torch.cat(copies, dim=1), times)


def _turned(x: Tensor, noise: dict[int, Tensor]) -> Tensor:
    """Tiles turned upside down, mirrored and transposed where the first three numbers of their noise say so."""
    ways = noise[8].flatten(1)[:, :3] > 0
    for k, other in enumerate((lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.transpose(2, 3))):
        x = torch.where(ways[:, k, None, None, None], other(x), x)
    return x


class _Block(nn.Module):
    """Twice the side: up-sample, convolve, add a noise map, normalise, scale and shift by the code."""

    def __init__(self, c_in: int, c_out: int, code_width: int, norm: str, noisy: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(c_in, c_out, 3, padding=1)
        # none where no map comes: DDP waits for the gradient of every parameter
        self.noise_strength = nn.Parameter(torch.randn(1, c_out, 1, 1) * 0.3) if noisy else None
        self.norm = _norm(norm, c_out)
        self.film = nn.Linear(code_width, 2 * c_out)

    def forward(self, x: Tensor, code: Tensor, noise: Tensor | None) -> Tensor:
        x = self.convolution(enlarged(x, (2 * x.shape[2], 2 * x.shape[3])))
        scale, shift = self.film(code).chunk(2, dim=1)
        if self.noise_strength is not None and noise is not None:
            x = _with_noise(x, self.noise_strength, noise)
        if is_reduced(x) and isinstance(self.norm, nn.GroupNorm):
            norm = self.norm
            x = norm_and_film(x, norm.num_groups, norm.weight, norm.bias, norm.eps, scale, shift)
        else:
            x = self.norm(x) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
        return F.leaky_relu(x, 0.2)


def _with_noise(x: Tensor, strength: Tensor, noise: Tensor) -> Tensor:
    """x (n, c, h, w) and, on every channel with its strength (1, c, 1, 1), a noise map (n, 1, h, w)."""
    if is_reduced(x):  # in its precision: a sum of two would be in that of the noise
        return torch.addcmul(x, strength.to(x.dtype), noise.to(x.dtype))
    return x + strength * noise


class ResidualGenerator(_GrowingGenerator):
    """Residual blocks without normalisation from 4 px to `resolution` (R3GAN; Huang et al. 2024, section 3).

    Two blocks a side in px. From a side to the next go a 1 × 1 convolution, where channels change, and bilinear
    up-sampling, whose filter is [1, 3, 3, 1]. R3GAN's generator sees noise alone, and only at 4 px; this one has
    `UpsampleGenerator`'s input, with FiLM within each branch.
    """

    def __init__(self, config: GANConfig, input_width: int) -> None:
        super().__init__(config, input_width)
        self.sides = [4 * 2**k for k in range(len(self.channels))]
        depth, widths = BLOCKS * len(self.sides), pairwise(self.channels[:1] + self.channels)
        self.blocks = nn.ModuleList(
            _Stage(c_in, c_out, depth, input_width, doubled=side > 4, noisy=side in self.noise.sides)
            for side, (c_in, c_out) in zip(self.sides, widths, strict=True)
        )
        self.to_rgb = pointwise(self.channels[-1], 3)
        keep_size(self.start)


class _Stage(nn.Module):
    """Maps (n, c_in, h, w), doubled to the next side in px or not, a noise map, and blocks of `depth` in the whole
    network."""

    def __init__(self, c_in: int, c_out: int, depth: int, code_width: int, doubled: bool, noisy: bool) -> None:
        super().__init__()
        self.doubled = doubled
        self.change = pointwise(c_in, c_out) if c_in != c_out else None
        self.noise_strength = nn.Parameter(torch.randn(1, c_out, 1, 1) * 0.3) if noisy else None  # as of `_Block`
        self.blocks = nn.ModuleList(ResidualBlock(c_out, depth, code_width) for _ in range(BLOCKS))

    def forward(self, x: Tensor, code: Tensor, noise: Tensor | None) -> Tensor:
        if self.change is not None:
            x = self.change(x)
        if self.doubled:
            x = enlarged(x, (2 * x.shape[2], 2 * x.shape[3]))
        if self.noise_strength is not None and noise is not None:
            x = _with_noise(x, self.noise_strength, noise)
        for block in self.blocks:
            x = block(x, code)
        return x


class DCGenerator(nn.Module):
    """DCGAN's generator of transposed convolutions (Radford et al. 2015), as the paper's.

    Input (n, input_width) float; output (n, 3, resolution, resolution) in [-1, 1].
    """

    def __init__(self, input_width: int, resolution: int, width: int, norm: str) -> None:
        super().__init__()
        channels = _channels(resolution // 2, width, limit=math.inf)
        first = nn.ConvTranspose2d(input_width, channels[0], 4)
        layers: list[nn.Module] = [first, _norm(norm, channels[0]), nn.LeakyReLU(0.2)]
        for c_in, c_out in pairwise(channels):
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
