"""Critics: an RGB tile (and, for a conditional one, its condition) in, scores out."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnagan.config.gan import GANConfig
from rnagan.models.feature_critic import EMBEDDING, FeatureHeads, FrozenFeatures
from rnagan.models.reduced import mean_over_space
from rnagan.models.residual import BLOCKS, SLOPE, ResidualBlock, pointwise
from rnagan.models.second_gradient import through

MAX_CHANNELS = 256


class Views(NamedTuple):
    """What the halves of a critic see of tiles: pixels (n, 3, H, H) in [-1, 1], and mixed maps of a frozen network.
    None where there is no such half."""

    pixels: Tensor | None
    maps: list[Tensor] | None


class Scores(NamedTuple):
    """By half of the critic: pixels (n,), features (n, k); None where there is no such half."""

    pixels: Tensor | None
    features: Tensor | None


def build_critic(config: GANConfig, condition_width: int, frozen: FrozenFeatures | None) -> "TwoCritics":
    """The critic of a config; it takes the condition only where the config shows it. `frozen`: what its second half
    works on, where the config names a backbone."""
    shown = condition_width if config.conditional else 0
    pixels: nn.Module | None
    if config.pixel_loss == "none":
        pixels = None
    elif config.critic_layout == "dcgan":
        pixels = DCCritic(config.resolution, config.critic_width, config.critic_norm)
    elif config.critic_layout == "residual":
        pixels = ResidualCritic(config.resolution, config.critic_width, shown)
    else:
        pixels = Critic(config.resolution, config.critic_width, config.critic_norm, shown)
    return TwoCritics(pixels, None if frozen is None else FeatureHeads(frozen.sides, shown))


class TwoCritics(nn.Module):
    """A critic on pixels and one on the maps of a frozen network, trained as one network; either may be missing.

    `views`: of tiles, as a pair of pixels and maps; c (n, condition_width), or None.
    """

    def __init__(self, pixels: nn.Module | None, features: nn.Module | None) -> None:
        super().__init__()
        self.pixels, self.features = pixels, features

    def forward(self, views: Views, c: Tensor | None = None) -> Scores:
        pixels = features = None
        if self.pixels is not None and views.pixels is not None:
            pixels = self.pixels(views.pixels, c)
        if self.features is not None and views.maps is not None:
            features = self.features(views.maps, c)
        return Scores(pixels, features)

    def earlier_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a file from before there were two, when the critic on pixels was the whole: by today's names."""
        is_earlier = any(name.startswith("score.") for name in tensors)
        return {f"pixels.{name}": tensor for name, tensor in tensors.items()} if is_earlier else tensors


class _ScoreOfMeans(nn.Module):
    """The end of a critic: a score (n,) that is linear in means h (n, `pooled`), with a projection of the condition."""

    def _make_score(self, pooled: int, condition_width: int) -> None:
        self.score = nn.Linear(pooled, 1)
        self.embedding = self.projection = None
        if condition_width:
            self.embedding = nn.Sequential(nn.Linear(condition_width, EMBEDDING), nn.LeakyReLU(0.2))
            self.projection = nn.Linear(condition_width + EMBEDDING, pooled, bias=False)

    def _scored(self, h: Tensor, c: Tensor | None) -> Tensor:
        score = self.score(h).squeeze(1)
        if self.embedding is None or self.projection is None:
            return score
        assert c is not None, "a projection critic is called with the condition"
        return score + (self.projection(torch.cat([c, self.embedding(c)], dim=1)) * h).sum(dim=1)


class Critic(_ScoreOfMeans):
    """Strided convolutions to 4 px, means over space, a linear score.

    The score sees the mean of every scale's feature maps, not of the last alone: how many nuclei there are and what
    colour the matrix has are means of local features, and so act on the generator directly.
    With `condition_width` > 0 it is a projection critic (Miyato & Koyama 2018): score = w·h(x) + (V e(c))·h(x), so a
    tile is scored as tissue and as tissue *of this profile*; e(c) is c beside a small layer of it, since the same
    gene may have another effect in another tissue.
    Input x (n, 3, resolution, resolution) in [-1, 1] and c (n, condition_width); output (n,) scores. `twice`: where the
    gradient by x is differentiated again, as in a penalty, the precision of its convolutions (`second_gradient`).
    """

    def __init__(self, resolution: int, width: int, norm: str, condition_width: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)]
        widths = [width]
        for k in range(int(math.log2(resolution // 4))):
            widths.append(min(width * 2 ** (k + 1), max(MAX_CHANNELS, width)))
            strided = nn.Conv2d(widths[-2], widths[-1], 4, stride=2, padding=1)
            layers += [strided, *_norm(norm, widths[-1]), nn.LeakyReLU(0.2)]
        widths.append(widths[-1])
        self.features = nn.Sequential(*layers, nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.LeakyReLU(0.2))
        self._make_score(sum(widths[1:]), condition_width)  # the maps of full size add least

    def forward(self, x: Tensor, c: Tensor | None = None, twice: str | None = None) -> Tensor:
        means = []
        for layer in self.features:
            x = through(layer, x, twice)
            if isinstance(layer, nn.LeakyReLU):
                means.append(mean_over_space(x))
        return self._scored(torch.cat(means[1:], dim=1), c)


class ResidualCritic(_ScoreOfMeans):
    """Residual blocks without normalisation to 4 px, two a side (R3GAN; Huang et al. 2024, section 3), means over
    space, a linear score.

    From a side to the next go means of 2 × 2 px, which are bilinear down-sampling, and a 1 × 1 convolution where
    channels change. R3GAN's score is of the maps of 4 px; this one's is `Critic`'s, of LeakyReLU's means of each side
    but the full one, with its projection. Inputs, output and `twice` as of `Critic`.
    """

    def __init__(self, resolution: int, width: int, condition_width: int = 0) -> None:
        super().__init__()
        sides = int(math.log2(resolution // 4)) + 1
        widths = [min(width * 2**k, max(MAX_CHANNELS, width)) for k in range(sides)]
        self.from_rgb = pointwise(3, width)
        self.stages = nn.ModuleList(
            _Stage(c_in, c_out, BLOCKS * sides, halved=k > 0)
            for k, (c_in, c_out) in enumerate(pairwise(widths[:1] + widths))
        )
        self.activation = nn.LeakyReLU(SLOPE)
        self._make_score(sum(widths[1:]), condition_width)

    def forward(self, x: Tensor, c: Tensor | None = None, twice: str | None = None) -> Tensor:
        x, means = through(self.from_rgb, x, twice), []
        for k, stage in enumerate(self.stages):
            x = stage(x, twice)
            if k:
                means.append(mean_over_space(through(self.activation, x, twice)))
        return self._scored(torch.cat(means, dim=1), c)


class _Stage(nn.Module):
    """Maps (n, c_in, h, w), halved to the next side in px or not, and blocks of `depth` in the whole network."""

    def __init__(self, c_in: int, c_out: int, depth: int, halved: bool) -> None:
        super().__init__()
        self.halved = nn.AvgPool2d(2) if halved else None
        self.change = pointwise(c_in, c_out) if c_in != c_out else None
        self.blocks = nn.ModuleList(ResidualBlock(c_out, depth) for _ in range(BLOCKS))

    def forward(self, x: Tensor, twice: str | None) -> Tensor:
        for layer in (self.halved, self.change):
            if layer is not None:
                x = through(layer, x, twice)
        for block in self.blocks:
            x = block(x, None, twice)
        return x


class DCCritic(nn.Module):
    """DCGAN's critic as torchgan has it and the released code uses it: strided convolutions to a score.

    The score passes a LeakyReLU, as in the released code. It sees the tile alone.
    Input x (n, 3, resolution, resolution) in [-1, 1]; output (n,) scores. `twice`: as of `Critic`.
    """

    def __init__(self, resolution: int, width: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        c_in = width
        for _ in range(int(math.log2(resolution // 8))):
            layers += [nn.Conv2d(c_in, 2 * c_in, 4, stride=2, padding=1), *_norm(norm, 2 * c_in), nn.LeakyReLU(0.2)]
            c_in *= 2
        self.features = nn.Sequential(*layers)
        self.score = nn.Sequential(nn.Conv2d(c_in, 1, 4), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor, c: Tensor | None = None, twice: str | None = None) -> Tensor:
        for layer in (*self.features, *self.score):
            x = through(layer, x, twice)
        return x.flatten()


def _norm(kind: str, channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels)] if kind == "batch" else []
