"""What the training split looks like in the latent: statistics of its units, its tissues, and how far a profile is."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from rnagan.io.weights import read_arrays, write_arrays

ACTIVE_KL_NATS = 0.01
_HELD_OUT_WITHIN = 99.0  # percent of the held-out profiles, whose distance and residual
_FAR = 1.25  # times so much are far
_ARRAYS = ("mean", "sd", "kl", "centroids", "whitening")
_LEAST_VARIANCE = 1e-6  # of the mean variance, added to each unit's: one profile a tissue has no scatter


@dataclasses.dataclass(frozen=True)
class LatentSpace:
    """Of each latent unit over the training split, float32 (latent,): `mean` and `sd` of mu, mean `kl` in nats.

    `centroids` (tissues, latent): mean mu of each of `tissues`. `whitening` (active, active) makes the scatter of the
    active units around their tissue's centroid round. A profile is far whose distance is beyond `far_distance`, or its
    residual beyond `far_residual`.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    kl: NDArray[np.float32]
    tissues: tuple[str, ...]
    centroids: NDArray[np.float32]
    whitening: NDArray[np.float32]
    far_distance: float
    far_residual: float

    @classmethod
    def fit(
        cls,
        mu_train: NDArray[np.float32],
        kl: NDArray[np.float32],
        tissues: Sequence[str],
        mu_held_out: NDArray[np.float32],
        residual_held_out: NDArray[np.float32],
    ) -> Self:
        """Of latent means (samples, latent) of the training split, the KL of each unit, and the samples' tissues.

        `mu_held_out` and `residual_held_out` (samples,) of profiles that weren't trained on say what isn't far.
        The covariance within tissues is shrunk (Ledoit & Wolf 2004), since units may be as many as profiles.
        """
        names = sorted(set(tissues))
        rows = np.searchsorted(names, tissues)
        centroids = np.stack([mu_train[rows == k].mean(axis=0) for k in range(len(names))])
        active = active_units(kl)
        whitening = _whitening((mu_train - centroids[rows])[:, active])
        statistics = mu_train.mean(axis=0), mu_train.std(axis=0), kl
        space = cls(*statistics, tuple(names), centroids, whitening, np.inf, np.inf)
        distance, residual = (
            _FAR * float(np.percentile(held_out, _HELD_OUT_WITHIN))
            for held_out in (space.distance(mu_held_out), residual_held_out)
        )
        return dataclasses.replace(space, far_distance=distance, far_residual=residual)

    @property
    def active(self) -> NDArray[np.intp]:
        """Indices of the units whose KL is above ACTIVE_KL_NATS, highest first."""
        return active_units(self.kl)

    def standardised(self, mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """The active units of latent means, in SDs of the training split around its mean, (samples, active)."""
        return (mu[:, self.active] - self.mean[self.active]) / self.sd[self.active]

    def distance(self, mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far latents (samples, latent) lie from the nearest tissue of the training split, (samples,).

        Mahalanobis distance of the active units to the nearest centroid, with the scatter within tissues, over the
        square root of the number of units: about 1 for a training profile. 0 where no unit is active.
        """
        active = self.active
        if not len(active):
            return np.zeros(len(mu), np.float32)
        rounded, centres = (a[:, active].astype(np.float64) @ self.whitening for a in (mu, self.centroids))
        return (cdist(rounded, centres).min(axis=1) / np.sqrt(len(active))).astype(np.float32)

    def is_far(self, distance: NDArray[np.float32], residual: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether profiles of these distances and residuals are unlike the training split, (samples,)."""
        return (distance > self.far_distance) | (residual > self.far_residual)

    def centroid(self, tissue: str) -> NDArray[np.float32]:
        """Mean latent of a tissue of the training split, (latent,); another tissue raises `ValueError`."""
        if tissue not in self.tissues:
            raise ValueError(f"The model wasn't trained on {tissue!r}; it knows {', '.join(self.tissues)}.")
        return self.centroids[self.tissues.index(tissue)]

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors; `tissues` go with the record of the model."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        write_arrays(path, arrays | {"far": np.array([self.far_distance, self.far_residual], np.float64)})

    @classmethod
    def load(cls, path: Path, tissues: Sequence[str]) -> Self:
        """Read what `save` wrote."""
        arrays = read_arrays(path, (*_ARRAYS, "far"))
        far, units = arrays.pop("far"), arrays["mean"].size
        active = int((arrays["kl"] > ACTIVE_KL_NATS).sum())
        shapes = ((units,), (units,), (units,), (len(tissues), units), (active, active))
        if tuple(arrays[name].shape for name in _ARRAYS) != shapes or far.shape != (2,):
            raise ValueError(f"{path} is of another latent or other tissues; copy the model folder again.")
        distance, residual = far.tolist()
        return cls(tissues=tuple(tissues), far_distance=distance, far_residual=residual, **arrays)


def residuals(z: NDArray[np.float32], z_recon: NDArray[np.float32], measured: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Root mean squared error of each profile's reconstruction over the genes that it has, (samples,).

    The decoder only makes profiles like those it was trained on, so this finds strange ones where the latent, which
    norms keep within bounds, does not.
    """
    squares = np.where(measured, np.square(z - z_recon), 0).sum(axis=1)
    return np.sqrt(squares / np.maximum(measured.sum(axis=1), 1)).astype(np.float32)


def active_units(kl: NDArray[np.float32]) -> NDArray[np.intp]:
    """Indices of the units with more than ACTIVE_KL_NATS of KL, highest first."""
    order = np.argsort(-kl, kind="stable")
    return order[kl[order] > ACTIVE_KL_NATS]


def _whitening(residuals: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.covariance import ledoit_wolf

    if not residuals.shape[1]:
        return np.zeros((0, 0), np.float32)
    covariance, _ = ledoit_wolf(residuals.astype(np.float64), assume_centered=True)
    floor = _LEAST_VARIANCE * max(np.trace(covariance) / len(covariance), np.finfo(np.float32).tiny)
    covariance += floor * np.eye(len(covariance))
    return np.linalg.inv(np.linalg.cholesky(covariance)).T.astype(np.float32)
