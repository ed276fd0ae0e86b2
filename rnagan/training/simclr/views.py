"""Two views of every tile, as SimCLR has them (Chen et al. 2020, appendix A), made by the loader's threads.

Lightly's transform draws from generators of the whole process, which threads would share. Here each tile has its own,
and what they draw is what Lightly draws; its pixels are the same to the bit.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from rnagan.config.simclr import SimCLRConfig
from rnagan.data.packed import Packed, Row
from rnagan.models.resnet import MEAN, SD
from rnagan.runtime import rng

RATIOS = (3 / 4, 4 / 3)  # of a crop's width to its height
CROPS_TRIED = 10
JITTERED = 0.8  # probability that colours are jittered
JITTER = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}  # at strength 1
FLIPPED = 0.5
SIGMAS = (0.1, 2.0)  # of the blur, px


class TwoViews:
    """Views of tiles, in the memory of their batch.

    They depend on the seed and the image number alone, so a resumed run, another batch size and other processes see the
    same ones.
    """

    def __init__(self, config: SimCLRConfig, resolution: int) -> None:
        self.config, self.resolution = config, resolution
        self.rows = {"views": Row((2, resolution, resolution, 3), torch.uint8)}
        strength = {name: own * config.colour_strength for name, own in JITTER.items()}
        hue = strength.pop("hue")
        # Of each colour operation the range of its factor; none where it would do nothing.
        self.jitter = {name: (max(0.0, 1 - own), 1 + own) for name, own in strength.items() if own}
        self.jitter |= {"hue": (-hue, hue)} if hue else {}

    def fill(self, start: int, out: Mapping[str, NDArray]) -> None:
        for number, (tile, views) in enumerate(zip(out["items"], out["views"], strict=True), start):
            draws, image = _Draws(self.config.seed, number), Image.fromarray(tile)
            for view in views:
                view[:] = self._view(image, draws)

    def _view(self, image: Image.Image, draws: "_Draws") -> Image.Image:
        from torchvision.transforms.v2 import functional as F

        config, side = self.config, [self.resolution, self.resolution]
        view = F.resized_crop(image, *draws.crop(image.width, config.smallest_crop), size=side)
        if draws.happens(FLIPPED):
            view = F.horizontal_flip(view)
        if draws.happens(FLIPPED if config.vertical_flips else 0.0):
            view = F.vertical_flip(view)
        draws.of_numpy.random_sample()  # Lightly's quarter turn, whose probability is 0
        if draws.happens(JITTERED):
            order = draws.order(len(JITTER))
            factors = {name: draws.uniform(*ends) for name, ends in self.jitter.items()}
            for name in (list(JITTER)[place] for place in order):
                if name in factors:
                    view = getattr(F, f"adjust_{name}")(view, factors[name])
        if draws.happens(config.grey):
            view = F.rgb_to_grayscale(view, num_output_channels=3)
        if draws.of_numpy.random_sample() < config.blur:
            view = view.filter(ImageFilter.GaussianBlur(draws.of_numpy.uniform(*SIGMAS)))
        return view


class _Draws:
    """Random numbers of one tile: its own generators of PyTorch and of NumPy, seeded by image number."""

    def __init__(self, seed: int, number: int) -> None:
        of_torch, of_numpy = rng.generator(seed, "simclr views", number).integers(2**32, size=2, dtype=np.uint32)
        self.of_torch = torch.Generator().manual_seed(int(of_torch))
        self.of_numpy = np.random.RandomState(of_numpy)

    def happens(self, probability: float) -> bool:
        return bool((torch.rand(1, generator=self.of_torch) < probability).item())

    def uniform(self, low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high, generator=self.of_torch).item()

    def order(self, count: int) -> list[int]:
        return torch.randperm(count, generator=self.of_torch).tolist()

    def crop(self, side: int, smallest: float) -> tuple[int, int, int, int]:
        """Top, left, height and width of a part of a square: of a random area and shape, or all where none fits."""
        ends = torch.log(torch.tensor(RATIOS)).tolist()
        for _ in range(CROPS_TRIED):
            area = side * side * self.uniform(smallest, 1.0)
            ratio = torch.exp(torch.empty(1).uniform_(*ends, generator=self.of_torch)).item()
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= side and 0 < h <= side:
                return self._below(side - h + 1), self._below(side - w + 1), h, w
        return 0, 0, side, side

    def _below(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.of_torch).item())


def normalised(packed: Packed, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What a network sees of a batch with `TwoViews`: first views, then second ones, (2n, 3, H, W) channels-last.

    Views go to the device as bytes, in one copy that nobody waits for where their memory is pinned. Numbers are those
    of Lightly: computed in float32, and then of `dtype`.
    """
    views = packed.field("views").to(device, non_blocking=True).transpose(0, 1).flatten(0, 1).permute(0, 3, 1, 2)
    x = views.to(torch.float32).mul_(1 / 255)
    for channel, (mean, sd) in enumerate(zip(MEAN, SD, strict=True)):  # numbers, and no copies to the device
        x[:, channel].sub_(mean).div_(sd)
    return x.to(dtype)
