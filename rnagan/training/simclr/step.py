"""The parts of a SimCLR step: two views of every tile, network, loss. The one place that imports Lightly."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor, nn

from rnagan.config.simclr import SimCLRConfig
from rnagan.data.reader import Batch, Replaced
from rnagan.models.resnet import MEAN, SD, build_backbone
from rnagan.runtime import rng


class Views(NamedTuple):
    """Two views of each of n tiles: images `start` … `start + n − 1` of the endless sequence."""

    start: int
    x: Tensor  # (2n, 3, H, W) float32, normalised: first views, then second ones
    replaced: tuple[Replaced, ...] = ()


class TwoViews:
    """Lightly's transform (SimCLR: Chen et al. 2020, appendix A) of every tile of a batch, twice.

    The views of a tile depend on the seed and its image number alone, so a resumed run, another batch size and other
    processes see the same ones.
    """

    def __init__(self, config: SimCLRConfig, resolution: int) -> None:
        self.seed = config.seed
        self.transform = SimCLRTransform(
            input_size=resolution,
            cj_strength=config.colour_strength,
            min_scale=config.smallest_crop,
            random_gray_scale=config.grey,
            gaussian_blur=config.blur,
            vf_prob=0.5 if config.vertical_flips else 0.0,
            normalize={"mean": list(MEAN), "std": list(SD)},
        )

    def __call__(self, batch: Batch) -> Views:
        pairs = []
        for number, tile in enumerate(batch.images.permute(0, 2, 3, 1).numpy(), batch.start):
            with _drawn_from(self.seed, number):
                pairs.append(self.transform(Image.fromarray(np.ascontiguousarray(tile))))
        first, second = zip(*pairs, strict=True)
        return Views(batch.start, torch.stack([*first, *second]), batch.replaced)


@contextlib.contextmanager
def _drawn_from(seed: int, number: int) -> Iterator[None]:
    """A block in which torch's and NumPy's own generators (Lightly's blur uses NumPy's) are seeded by image number."""
    draws = rng.generator(seed, "simclr views", number).integers(2**32, size=2, dtype=np.uint32)
    of_torch, of_numpy = torch.get_rng_state(), np.random.get_state()
    try:
        torch.default_generator.manual_seed(int(draws[0]))
        np.random.seed(draws[1])
        yield
    finally:
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)


class SimCLRNetwork(nn.Module):
    """A backbone and its projection head, (n, 3, H, W) to (n, projection)."""

    def __init__(self, config: SimCLRConfig) -> None:
        super().__init__()
        self.backbone, width = build_backbone(config.backbone, config.norm, config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.head = SimCLRProjectionHead(width, width, config.projection, batch_norm=config.norm == "batch")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


class StepRecord(NamedTuple):
    """Scalars of a step on this process."""

    loss: Tensor
    spread: Tensor  # SD of the normalised projections times √width: 1 where they fill the sphere, 0 where they collapse


def contrastive_loss(z: Tensor, temperature: float, processes: int) -> StepRecord:
    """NT-Xent (Chen et al. 2020, equation 1) of projections (2n, width), first views before second ones.

    Its mean over processes is the loss of the whole batch: a tile's negatives are gathered from all `processes`, which
    must call it together. Without that each process would silently compare its own tiles alone.
    """
    z = z if z.dtype == torch.float64 else z.float()
    loss = NTXentLoss(temperature=temperature, gather_distributed=processes > 1)(*z.chunk(2))
    spread = F.normalize(z.detach(), dim=1).std(dim=0).mean() * z.shape[1] ** 0.5
    return StepRecord(loss, spread)
