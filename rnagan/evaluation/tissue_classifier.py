"""A small network trained on real tiles that says which tissue a tile shows."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from rnagan import rng
from rnagan.evaluation.tile_network import BATCH, flipped, outputs_of, tile_network, to_tensor


@dataclasses.dataclass(frozen=True)
class TissueClassifier:
    """Tiles (n, H, W, 3) uint8 in, tissue names out."""

    network: nn.Module
    tissues: list[str]

    def predict(self, tiles: NDArray[np.uint8]) -> list[str]:
        """The tissue of each tile."""
        return [self.tissues[k] for k in outputs_of(self.network, tiles).argmax(dim=1).tolist()]


def train_tissue_classifier(
    tiles: NDArray[np.uint8], tissues: list[str], seed: int = 0, steps: int = 400, lr: float = 2e-3
) -> TissueClassifier:
    """Train on real tiles (n, H, W, 3) with the tissue of each; flips, and every tissue equally often."""
    names = sorted(set(tissues))
    labels = np.array([names.index(tissue) for tissue in tissues])
    rows_of = [np.flatnonzero(labels == label) for label in range(len(names))]
    network = tile_network(len(names), seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        random = rng.generator(seed, "classifier", step)
        rows = np.array([random.choice(rows_of[label]) for label in random.integers(0, len(names), BATCH)])
        x = flipped(to_tensor(tiles[rows]), random)
        optimizer.zero_grad()
        F.cross_entropy(network(x), torch.from_numpy(labels[rows])).backward()
        optimizer.step()
        schedule.step()
    return TissueClassifier(network.eval(), names)
