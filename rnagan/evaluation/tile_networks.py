"""Small networks trained on real tiles: which tissue a tile shows, and which profile's condition it belongs to."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.runtime import rng
from rnagan.runtime.devices import AUTO, choose_device

WIDTHS = (16, 32, 64, 64)
BATCH = 64
_AT_A_TIME = 256  # tiles, where nothing is learned
STEPS = 600
CHECKS = 8  # looks at the validation donors
_LEAST_SD = 1e-6


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
    """What the network says of tiles (n, H, W, 3) uint8, (n, outputs) on the CPU; it is left in evaluation mode."""
    network.eval()
    return torch.cat(list(_in_parts(network, tiles)))


def _in_parts(network: nn.Module, tiles: NDArray[np.uint8]) -> Iterator[Tensor]:
    for first in range(0, len(tiles), _AT_A_TIME):
        yield network(to_tensor(tiles[first : first + _AT_A_TIME]).to(_device_of(network))).cpu()


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


@dataclasses.dataclass(frozen=True)
class TissueClassifier:
    """Tiles (n, H, W, 3) uint8 in, tissue names out."""

    network: nn.Module
    tissues: list[str]

    def predict(self, tiles: NDArray[np.uint8]) -> list[str]:
        """The tissue of each tile."""
        return [self.tissues[k] for k in outputs_of(self.network, tiles).argmax(dim=1).tolist()]


def train_tissue_classifier(
    tiles: NDArray[np.uint8],
    tissues: list[str],
    seed: int = 0,
    steps: int = 400,
    lr: float = 2e-3,
    device: str | torch.device = AUTO,
) -> TissueClassifier:
    """Train on real tiles (n, H, W, 3) with the tissue of each; flips, and every tissue equally often."""
    names = sorted(set(tissues))
    labels = np.array([names.index(tissue) for tissue in tissues])
    rows_of = [np.flatnonzero(labels == label) for label in range(len(names))]
    device = choose_device(device)
    network = tile_network(len(names), seed).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        random = rng.generator(seed, "classifier", step)
        rows = np.array([random.choice(rows_of[label]) for label in random.integers(0, len(names), BATCH)])
        x = flipped(to_tensor(tiles[rows]), random)
        optimizer.zero_grad()
        F.cross_entropy(network(x.to(device)), torch.from_numpy(labels[rows]).to(device)).backward()
        optimizer.step()
        schedule.step()
    return TissueClassifier(network.eval(), names)


@dataclasses.dataclass(frozen=True)
class ConditionRegressor:
    """Tiles (n, H, W, 3) uint8 in, readings float32 (units,) of their mean out.

    `error`: mean squared error of the validation donors' readings, of targets with SD 1: at 1 it reads nothing.
    """

    network: nn.Module
    error: float

    def read(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean reading over a profile's tiles."""
        return outputs_of(self.network, tiles).mean(dim=0).numpy()


def within_tissue(
    c: NDArray[np.float32], tissues: Sequence[str], train: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Conditions (profiles, units) around their tissue's mean, in SDs within tissues, and those SDs (units,).

    Means and SDs are of the profiles in `train`; what tells tissues apart is gone, and the network needn't learn it.
    """
    names = np.asarray(tissues)
    around = c.astype(np.float64)
    for tissue in set(tissues):
        around[names == tissue] -= c[(names == tissue) & train].mean(axis=0, dtype=np.float64)
    sd = np.maximum(around[train].std(axis=0), _LEAST_SD)
    return (around / sd).astype(np.float32), sd.astype(np.float32)


def train_condition_regressor(
    tiles: Sequence[NDArray[np.uint8]],
    targets: NDArray[np.float32],
    held_out_tiles: Sequence[NDArray[np.uint8]],
    held_out_targets: NDArray[np.float32],
    seed: int = 0,
    steps: int = STEPS,
    lr: float = 2e-3,
    device: str | torch.device = AUTO,
) -> ConditionRegressor:
    """Train on real tiles, one (k, H, W, 3) a profile, with the `targets` (profiles, units) of their profiles.

    Least squares over tiles. Of CHECKS states on the way that with the least error on the held-out (validation)
    profiles is kept, so that it doesn't learn donors by heart.
    """
    pool, owner = np.concatenate(tiles), np.repeat(np.arange(len(tiles)), [len(own) for own in tiles])
    device = choose_device(device)
    network = tile_network(targets.shape[1], seed).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best = ConditionRegressor(network, np.inf)
    for step in range(steps):
        random = rng.generator(seed, "condition reader", step)
        rows = random.integers(0, len(pool), BATCH)
        x = flipped(to_tensor(pool[rows]), random)
        x = x.transpose(2, 3) if random.random() < 0.5 else x
        optimizer.zero_grad()
        F.mse_loss(network(x.to(device)), torch.from_numpy(targets[owner[rows]]).to(device)).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, steps // CHECKS) == 0 or step + 1 == steps:
            reader = ConditionRegressor(network, 0.0)
            read = np.stack([reader.read(own) for own in held_out_tiles])
            network.train()
            error = float(np.square(read - held_out_targets).mean())
            if error < best.error:
                best = ConditionRegressor(copy.deepcopy(network).eval(), error)
    return best
