"""The parts of a SimCLR step: network and loss. The one place that imports Lightly."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor, nn

from rnagan.config.simclr import SimCLRConfig
from rnagan.models.resnet import build_backbone


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
