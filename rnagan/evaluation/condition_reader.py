"""A small network trained on real tiles that reads from a tile the condition of the profile that it belongs to."""

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from rnagan import rng
from rnagan.evaluation.tile_network import BATCH, flipped, outputs_of, tile_network, to_tensor

STEPS = 600
CHECKS = 8  # looks at the validation donors
_LEAST_SD = 1e-6


@dataclasses.dataclass(frozen=True)
class ConditionReader:
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


def train_condition_reader(
    tiles: Sequence[NDArray[np.uint8]],
    targets: NDArray[np.float32],
    held_out_tiles: Sequence[NDArray[np.uint8]],
    held_out_targets: NDArray[np.float32],
    seed: int = 0,
    steps: int = STEPS,
    lr: float = 2e-3,
) -> ConditionReader:
    """Train on real tiles, one (k, H, W, 3) a profile, with the `targets` (profiles, units) of their profiles.

    Least squares over tiles. Of CHECKS states on the way that with the least error on the held-out (validation)
    profiles is kept, so that it doesn't learn donors by heart.
    """
    pool, owner = np.concatenate(tiles), np.repeat(np.arange(len(tiles)), [len(own) for own in tiles])
    network = tile_network(targets.shape[1], seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best = ConditionReader(network, np.inf)
    for step in range(steps):
        random = rng.generator(seed, "condition reader", step)
        rows = random.integers(0, len(pool), BATCH)
        x = flipped(to_tensor(pool[rows]), random)
        x = x.transpose(2, 3) if random.random() < 0.5 else x
        optimizer.zero_grad()
        F.mse_loss(network(x), torch.from_numpy(targets[owner[rows]])).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, steps // CHECKS) == 0 or step + 1 == steps:
            reader = ConditionReader(network, 0.0)
            read = np.stack([reader.read(own) for own in held_out_tiles])
            network.train()
            error = float(np.square(read - held_out_targets).mean())
            if error < best.error:
                best = ConditionReader(copy.deepcopy(network).eval(), error)
    return best
