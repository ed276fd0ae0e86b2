"""A small network trained on real tiles that says which tissue a tile shows."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan import rng

WIDTHS = (16, 32, 64, 64)
BATCH = 64


@dataclasses.dataclass(frozen=True)
class TissueClassifier:
    """Strided convolutions with GroupNorm; tiles (n, H, W, 3) uint8 in, tissue names out."""

    network: nn.Module
    tissues: list[str]

    @torch.no_grad()
    def predict(self, tiles: NDArray[np.uint8]) -> list[str]:
        """The tissue of each tile."""
        scores = [self.network(_to_tensor(tiles[i : i + 256])) for i in range(0, len(tiles), 256)]
        return [self.tissues[k] for k in torch.cat(scores).argmax(dim=1).tolist()]


def train_tissue_classifier(
    tiles: NDArray[np.uint8], tissues: list[str], seed: int = 0, steps: int = 400, lr: float = 2e-3
) -> TissueClassifier:
    """Train on real tiles (n, H, W, 3) with the tissue of each; flips, and every tissue equally often."""
    names = sorted(set(tissues))
    labels = np.array([names.index(tissue) for tissue in tissues])
    network = _network(len(names), seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        random = rng.generator(seed, "classifier", step)
        wanted = random.integers(0, len(names), BATCH)
        rows = np.array([random.choice(np.flatnonzero(labels == label)) for label in wanted])
        x = _to_tensor(tiles[rows])
        x = x.flip(2) if random.random() < 0.5 else x
        x = x.flip(3) if random.random() < 0.5 else x
        optimizer.zero_grad()
        F.cross_entropy(network(x), torch.from_numpy(labels[rows])).backward()
        optimizer.step()
        schedule.step()
    return TissueClassifier(network.eval(), names)


def _network(outputs: int, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for c_in, c_out in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.GroupNorm(8, c_out), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], outputs))


def _to_tensor(tiles: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
