"""What the training split looks like in the latent: statistics of its units, its tissues, and how far a profile is."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from rnagan.io.weights import read_arrays, shapes_of, write_arrays

ACTIVE_KL_NATS = 0.01
_HELD_OUT_WITHIN = 99.0  # percent of the held-out profiles, whose distance, residual and direction
_FAR_DISTANCE, _FAR_RESIDUAL, _FAR_DIRECTION = 2.0, 1.25, 1.0  # times so much are far
_ARRAYS = ("mean", "sd", "kl", "centroids", "whitening")
_POSTERIOR_SD = "posterior_sd"  # not in models of earlier versions
_FAR_ABSOLUTE, _FAR_RELATIVE = "far", "far_relative"  # limits of distance and residual: of earlier versions, and now
_TINY = np.finfo(np.float32).tiny
_LEAST_VARIANCE = 1e-6  # of the mean variance, added to each unit's: one profile a tissue has no scatter


@dataclasses.dataclass(frozen=True)
class LatentSpace:
    """Of each latent unit over the training split, float32 (latent,): `mean` and `sd` of mu, mean `kl` in nats.

    `centroids` (tissues, latent): mean mu of each of `tissues`. `whitening` (active, active) makes the scatter of the
    active units around their tissue's centroid round. A profile is far whose distance is beyond `far_distance`, its
    residual beyond `far_residual`, or its direction beyond `far_direction`.

    `posterior_sd` (latent,): mean SD of the posterior, None where it isn't known, as of models of earlier versions.
    Their residuals aren't `relative` to a profile's own distance from the training mean, and no direction is far.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    kl: NDArray[np.float32]
    tissues: tuple[str, ...]
    centroids: NDArray[np.float32]
    whitening: NDArray[np.float32]
    far_distance: float
    far_residual: float
    posterior_sd: NDArray[np.float32] | None = None
    relative: bool = True
    far_direction: float = np.inf

    @classmethod
    def fit(
        cls,
        mu_train: NDArray[np.float32],
        kl: NDArray[np.float32],
        tissues: Sequence[str],
        mu_held_out: NDArray[np.float32],
        residual_held_out: NDArray[np.float32],
        posterior_sd: NDArray[np.float32] | None = None,
    ) -> Self:
        """Of latent means (samples, latent) of the training split, the KL of each unit, and the samples' tissues.

        `mu_held_out` and the relative `residual_held_out` (samples,) of profiles that weren't trained on say what isn't
        far. `posterior_sd` (latent,): mean over the training split; None of a latent without a posterior.
        The covariance within tissues is shrunk (Ledoit & Wolf 2004), since units may be as many as profiles.
        """
        names = sorted(set(tissues))
        rows = np.searchsorted(names, tissues)
        centroids = np.stack([mu_train[rows == k].mean(axis=0) for k in range(len(names))])
        active = active_units(kl)
        whitening = _whitening((mu_train - centroids[rows])[:, active])
        statistics = mu_train.mean(axis=0), mu_train.std(axis=0), kl
        space = cls(*statistics, tuple(names), centroids, whitening, np.inf, np.inf, posterior_sd)
        far_distance, far_residual, far_direction = (
            times * float(np.percentile(held_out, _HELD_OUT_WITHIN))
            for times, held_out in (
                (_FAR_DISTANCE, space.distance(mu_held_out)),
                (_FAR_RESIDUAL, residual_held_out),
                (_FAR_DIRECTION, space.direction(mu_held_out)),
            )
        )
        return dataclasses.replace(
            space, far_distance=far_distance, far_residual=far_residual, far_direction=far_direction
        )

    @property
    def active(self) -> NDArray[np.intp]:
        """Indices of the units whose KL is above ACTIVE_KL_NATS, highest first."""
        return active_units(self.kl)

    def standardised(self, mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """The active units of latent means, in SDs of the training split around its mean, (samples, active)."""
        return (mu[:, self.active] - self.mean[self.active]) / self.sd[self.active]

    @property
    def neighbours_by(self) -> str:
        """The distance of `neighbour_units`: `precision_weighted` or, without posterior SDs, `standardised`."""
        return "standardised" if self.posterior_sd is None else "precision_weighted"

    def neighbour_units(self, mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """The active units of latent means in the units in which neighbours are asked for, (samples, active).

        Euclidean distance between them weighs each unit by the precision of its posterior: in SDs of the posterior a
        unit counts as far as it tells profiles apart. In SDs of the training split (`standardised`) one that hardly
        tells anything counts as much as the first.
        """
        if self.posterior_sd is None:
            return self.standardised(mu)
        return (mu[:, self.active] - self.mean[self.active]) / self.posterior_sd[self.active]

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

    def residual(
        self, z: NDArray[np.float32], z_recon: NDArray[np.float32], measured: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """What `is_far` compares of reconstructions (samples, genes): `relative_residuals`, or `residuals` where the
        model is of an earlier version, (samples,)."""
        return (relative_residuals if self.relative else residuals)(z, z_recon, measured)

    def direction(self, mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far latents (samples, latent) point away from every tissue of the training split, (samples,), 0 to 2.

        1 − cosine with the nearest tissue's direction, seen from the mean of the tissues, where the scatter within
        tissues is round. Another cohort's profiles of a tissue may lie farther out than ours, but in its direction; a
        tissue that wasn't trained on has a direction of its own. 1 for all where there is a single tissue.
        """
        active = self.active
        centre = self.centroids.mean(axis=0)
        seen, tissues = ((a - centre)[:, active].astype(np.float64) @ self.whitening for a in (mu, self.centroids))
        lengths = np.linalg.norm(seen, axis=1)[:, None] * np.linalg.norm(tissues, axis=1)
        cosines = np.divide(seen @ tissues.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        return (1 - cosines.max(axis=1)).astype(np.float32)

    def is_far(
        self,
        distance: NDArray[np.float32],
        residual: NDArray[np.float32],
        direction: NDArray[np.float32] | None = None,
    ) -> NDArray[np.bool_]:
        """Whether profiles of these distances, residuals and directions are unlike the training split, (samples,).

        Without directions only the others count.
        """
        far = (distance > self.far_distance) | (residual > self.far_residual)
        return far if direction is None else far | (direction > self.far_direction)

    def centroid(self, tissue: str) -> NDArray[np.float32]:
        """Mean latent of a tissue of the training split, (latent,); another tissue raises `ValueError`."""
        if tissue not in self.tissues:
            raise ValueError(f"The model wasn't trained on {tissue!r}; it knows {', '.join(self.tissues)}.")
        return self.centroids[self.tissues.index(tissue)]

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors; `tissues` go with the record of the model."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        if self.posterior_sd is not None:
            arrays[_POSTERIOR_SD] = self.posterior_sd
        far = [self.far_distance, self.far_residual]
        if self.relative:
            arrays[_FAR_RELATIVE] = np.array([*far, self.far_direction])
        else:
            arrays[_FAR_ABSOLUTE] = np.array(far)
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path, tissues: Sequence[str]) -> Self:
        """Read what `save` wrote, in this version or an earlier one."""
        stored = shapes_of(path)
        relative = _FAR_RELATIVE in stored
        far_name = _FAR_RELATIVE if relative else _FAR_ABSOLUTE
        arrays = read_arrays(path, (*_ARRAYS, far_name, *({_POSTERIOR_SD} & stored.keys())))
        far, posterior_sd, units = arrays[far_name], arrays.get(_POSTERIOR_SD), arrays["mean"].size
        active = int((arrays["kl"] > ACTIVE_KL_NATS).sum())
        shapes = ((units,), (units,), (units,), (len(tissues), units), (active, active))
        own = tuple(arrays[name].shape for name in _ARRAYS) == shapes and far.shape == (2 + relative,)
        if not own or (posterior_sd is not None and posterior_sd.shape != (units,)):
            raise ValueError(f"{path} is of another latent or other tissues; copy the model folder again.")
        distance, residual, direction = far.tolist() if relative else (*far.tolist(), np.inf)
        mean, sd, kl, centroids, whitening = (arrays[name] for name in _ARRAYS)
        known = tuple(tissues), centroids, whitening
        return cls(mean, sd, kl, *known, distance, residual, posterior_sd, relative, direction)


def residuals(z: NDArray[np.float32], z_recon: NDArray[np.float32], measured: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Root mean squared error of each profile's reconstruction over the genes that it has, (samples,).

    The decoder only makes profiles like those it was trained on, so this finds strange ones where the latent, which
    norms keep within bounds, does not.
    """
    squares = np.where(measured, np.square(z - z_recon), 0).sum(axis=1)
    return np.sqrt(squares / np.maximum(measured.sum(axis=1), 1)).astype(np.float32)


def relative_residuals(
    z: NDArray[np.float32], z_recon: NDArray[np.float32], measured: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """`residuals` over the profile's own distance from the training mean, (samples,): 1 where the mean itself would do.

    A profile of another cohort lies farther out in all directions, and so does its reconstruction; what counts is the
    share of it that the model can't rebuild.
    """
    own = np.maximum(residuals(z, np.zeros_like(z), measured), _TINY)
    return (residuals(z, z_recon, measured) / own).astype(np.float32)


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
