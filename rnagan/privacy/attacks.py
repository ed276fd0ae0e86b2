"""Attacks: what somebody who holds a model and a person's tiles or profile could take for membership.

Each gives a score to every tile or profile, higher where it was rather trained on (`membership`).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from torch import Tensor

from rnagan.api import RNAGAN
from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.evaluation.stats import Values
from rnagan.evaluation.tile_networks import to_tensor
from rnagan.models.critics import Views, build_critic
from rnagan.models.feature_critic import frozen_features
from rnagan.training.checkpoint import load_checkpoint, newest_whole

_AT_A_TIME = 64  # tiles that a critic scores


def nearest_generated(real: Values, generated: Values, groups: NDArray, units: NDArray) -> Values:
    """How near the nearest generated tile of its tissue comes to each real one, less how near the nearest real tile of
    another person does, both as logarithms of distances; (n,), higher where generated tiles come nearer.

    Features (n, width) of real tiles and of as many generated ones, the `groups` (tissue) of both and the unit of each
    real tile. The second distance is how ordinary the tile is: without it ordinary tissue would pass for known (Carlini
    et al. 2023, section 4.2, calibrate likewise). A tissue of one person gives 0.
    """
    found = np.zeros(len(real))
    for group in np.unique(groups):
        own = groups == group
        apart = cdist(real[own], real[own])
        apart[units[own][:, None] == units[own]] = np.inf
        if np.isfinite(apart).any(axis=1).all():
            near = cdist(real[own], generated[own]).min(axis=1)
            found[own] = np.log(np.maximum(apart.min(axis=1), 1e-12)) - np.log(np.maximum(near, 1e-12))
    return found


def density_ratio(real: Values, generated: Values, reference: Values, groups: NDArray) -> Values:
    """Log-density of each real tile under the model's tiles of its tissue less that under tiles of a model that was
    trained without its person; (n,). Features (n, width) of real tiles and of as many of both models, and the `groups`
    of all three.

    Densities are Gaussian kernels as wide as the median distance from a tile of the reference to the nearest other one.
    """
    found = np.empty(len(real))
    for group in np.unique(groups):
        own = groups == group
        among = cdist(reference[own], reference[own])
        np.fill_diagonal(among, np.inf)
        width = max(float(np.median(among.min(axis=1))), 1e-12) if own.sum() > 1 else 1.0
        mine, theirs = (
            logsumexp(-((cdist(real[own], pool[own]) / width) ** 2) / 2, axis=1) for pool in (generated, reference)
        )
        found[own] = mine - theirs
    return found


def critic_scores(run: Path, model: RNAGAN, tiles: NDArray[np.uint8], c: Tensor | None) -> Values | None:
    """The score that the critic of a run's newest checkpoint gives to tiles (n, H, W, 3) under conditions (n, width),
    (n,): the sum of its halves' means, each in SDs. None where the run's folder holds no checkpoint, as that of a model
    that was given away, and of a flow, which has no critic.
    """
    folder = newest_whole(run)[0] if (run / "checkpoints").is_dir() else None
    if folder is None or not isinstance(model.config, GANConfig):
        return None
    config = load_config(GANConfig, run / "config.yaml")
    frozen = frozen_features(config)
    critic = build_critic(config, 0 if c is None else c.shape[1], frozen)
    load_checkpoint(folder).load_module("critic", critic)
    critic.float().eval()
    scores = []
    with torch.no_grad():
        for first in range(0, len(tiles), _AT_A_TIME):
            part = slice(first, first + _AT_A_TIME)
            x = to_tensor(tiles[part])
            shown = None if c is None or not config.conditional else c[part]
            views = Views(None if critic.pixels is None else x, None if frozen is None else frozen(x))
            own = critic(views, shown)
            scores.append([half.reshape(len(half), -1).mean(dim=1).numpy() for half in own if half is not None])
    halves = [np.concatenate(own).astype(np.float64) for own in zip(*scores, strict=True)]
    return np.sum([(half - half.mean()) / max(half.std(), 1e-12) for half in halves], axis=0)
