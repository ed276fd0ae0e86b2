"""A critic on the maps of a frozen pretrained network (Sauer et al. 2021, Projected GANs): it knows what tissue looks
like from the start, where one on pixels learns textures."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from rnagan.config.gan import GANConfig
from rnagan.models.backbones import Backbone, make_backbone
from rnagan.models.reduced import enlarged
from rnagan.runtime import rng

MIXED = 64  # channels of the mixed maps
SCORES_PX = 4  # side of a head's map of scores
EMBEDDING = 64  # units of the condition's embedding, beside the condition itself


class FrozenFeatures(nn.Module):
    """Tiles (n, 3, H, W) in [-1, 1] → the backbone's maps of the tiles brought to `px`, mixed: a list of maps
    (n, MIXED, s, s), fine to coarse.

    A 1 × 1 convolution mixes the channels of each map, and 3 × 3 ones from the coarsest on mix each with the coarser
    one, enlarged and added (Sauer et al. 2021, section 3.2). Their weights are random, addressed by `seed`, and stay as
    they are. They are all of its state: the backbone is no part of it, so it is neither trained, nor saved, nor handed
    to DDP or DeepSpeed. Raises `ValueError` on maps that the heads can't take.
    """

    def __init__(self, backbone: Backbone, px: int, seed: int) -> None:
        super().__init__()
        self.px = px
        self._unsaved = [backbone]  # in a list, which nn.Module doesn't look into
        for k, channels in enumerate(backbone.channels):
            self.register_buffer(f"channels_{k}", _random(seed, f"mixing/channels/{k}", (MIXED, channels, 1, 1)))
            self.register_buffer(f"scales_{k}", _random(seed, f"mixing/scales/{k}", (MIXED, MIXED, 3, 3)))
        self.sides = _sides(backbone, px)

    @property
    def backbone(self) -> Backbone:
        return self._unsaved[0]

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """`to(device, dtype)` reaches the backbone too."""
        self.backbone._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, x: Tensor) -> list[Tensor]:
        if x.shape[-1] != self.px:
            x = F.interpolate(x, size=(self.px, self.px), mode="bilinear", antialias=x.shape[-1] > self.px)
        mixed: list[Tensor] = []
        maps = self.backbone(x)
        for k in reversed(range(len(maps))):
            own = F.conv2d(maps[k], self.get_buffer(f"channels_{k}"))
            if mixed:
                own = own + enlarged(mixed[0], own.shape[2:])
            mixed.insert(0, F.conv2d(own, self.get_buffer(f"scales_{k}"), padding=1))
        return mixed


def frozen_features(config: GANConfig) -> FrozenFeatures | None:
    """What the second half of a config's critic works on; None where it names no backbone."""
    if config.backbone == "none":
        return None
    return FrozenFeatures(make_backbone(config.backbone), config.backbone_px, config.seed)


class FeatureHeads(nn.Module):
    """A small head for each mixed map: down to 4 × 4 scores at most, each of a place and, by projection, of the
    condition (Miyato & Koyama 2018). All layers have spectral norm.

    Input maps (n, MIXED, s, s) of `sides` and c (n, condition_width); output (n, scores).
    """

    def __init__(self, sides: list[int], condition_width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_Head(side, condition_width) for side in sides)

    def forward(self, maps: list[Tensor], c: Tensor | None) -> Tensor:
        return torch.cat([head(own, c) for head, own in zip(self.heads, maps, strict=True)], dim=1)


class _Head(nn.Module):
    def __init__(self, side: int, condition_width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while side > SCORES_PX:
            layers += [spectral_norm(nn.Conv2d(MIXED, MIXED, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            side //= 2
        layers += [spectral_norm(nn.Conv2d(MIXED, MIXED, 3, padding=1)), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.score = spectral_norm(nn.Conv2d(MIXED, 1, 1))
        self.embedding = self.projection = None
        if condition_width:
            self.embedding = nn.Sequential(nn.Linear(condition_width, EMBEDDING), nn.LeakyReLU(0.2))
            self.projection = spectral_norm(nn.Linear(condition_width + EMBEDDING, MIXED, bias=False))

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        h = self.features(x)
        score = self.score(h).flatten(1)
        if self.embedding is None or self.projection is None:
            return score
        assert c is not None, "a critic with a projection is called with the condition"
        of_condition = self.projection(torch.cat([c, self.embedding(c)], dim=1))
        return score + torch.einsum("nk,nkhw->nhw", of_condition, h).flatten(1)


def _sides(backbone: Backbone, px: int) -> list[int]:
    """The sides of the backbone's maps of tiles of `px`; raises `ValueError` on maps that the heads can't take."""
    try:
        with torch.no_grad():
            maps = backbone(torch.zeros(1, 3, px, px).to(next(backbone.parameters())))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(f"The backbone can't take tiles of {px} px ({error}); choose another backbone_px.") from None
    channels, sides = [own.shape[1] for own in maps], [own.shape[-1] for own in maps]
    if channels != list(backbone.channels):
        raise ValueError(f"The backbone's maps have {channels} channels, and it says {list(backbone.channels)}.")
    coarser = sides[1:] + sides[-1:]
    if any(side < 2 or side & (side - 1) or side < after for side, after in zip(sides, coarser, strict=True)):
        raise ValueError(
            f"The backbone's maps of {px} px have sides {sides}; they must be powers of two, at least 2 and falling: "
            "choose another backbone_px."
        )
    return sides


def _random(seed: int, purpose: str, shape: tuple[int, ...]) -> Tensor:
    """Weights of a convolution that keeps the variance of its input, addressed by seed and purpose."""
    draw = rng.generator(seed, purpose).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(draw).float()
