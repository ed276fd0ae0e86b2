"""Edits of profiles in the latent: reconstruct, draw new ones, shift between tissues, interpolate, move genes.

Article: Results, "A β-VAE model can build a representative latent space", figure 2. Functions of arrays; profiles as
files are in rnagan/latent/edited_profiles.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan.expression.transform import LOGGED, ExpressionTransform
from rnagan.models.latent_space import LatentSpace
from rnagan.models.trained_vae import VAEModel
from rnagan.runtime import rng

SPREADS = ("tissue", "prior")
SCALES = ("sd", "log")


class Perturbation(NamedTuple):
    """Scores (samples, the model's genes) of profiles in which some genes were moved."""

    edited: NDArray[np.float32]  # the moved genes alone differ; NaN where a gene wasn't measured
    followed: NDArray[np.float32]  # the others have moved with them, as far as the latent knows
    change: NDArray[np.float32]  # of reconstructions: of the edited profile minus that of the profile itself


def reconstruct(model: VAEModel, x: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (samples, the model's genes) decoded from the latent means of profiles in the model's genes and units,
    and those latents (samples, latent)."""
    latents = model.encode(x, model.transform.genes, model.transform.units).latents
    return model.decode(latents), latents


def sample_latents(
    space: LatentSpace, tissue: str, n: int, seed: int = 0, spread: str = "tissue"
) -> NDArray[np.float32]:
    """Draw `n` latents around a tissue's centroid, float32 (n, latent); draw k doesn't depend on `n`.

    `spread` "prior" is the article's: centroid plus N(0, 1) in every unit. The active units of a tissue's own profiles
    scatter less, so such draws lie nearly twice as far from the centroid as those (`LatentSpace.distance`). "tissue",
    the default, draws the active units with the scatter of the training profiles around their tissue's centroid (its
    covariance, shared by all tissues), and the others from the prior, which the decoder has learned to ignore.
    """
    if spread not in SPREADS:
        raise ValueError(f"spread is {spread!r}; choose {' or '.join(SPREADS)}.")
    noise = rng.normal(seed, f"latent sample/{tissue}", 0, n, len(space.mean))
    if spread == "tissue":
        active = space.active
        noise[:, active] = noise[:, active] @ np.linalg.inv(space.whitening.astype(np.float64))
    return (space.centroid(tissue) + noise).astype(np.float32)


def shift_latents(
    space: LatentSpace, latents: NDArray[np.float32], tissues: Sequence[str], to: str
) -> NDArray[np.float32]:
    """Latents (samples, latent) of profiles of `tissues` (samples,) moved to tissue `to`.

    The difference of the two centroids is added; what sets a profile apart from its tissue stays (article: figure 2B).
    """
    target = space.centroid(to)
    return latents + np.stack([target - space.centroid(tissue) for tissue in tissues])


def interpolate_latents(
    start: NDArray[np.float32], end: NDArray[np.float32], steps: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """`steps` latents (steps, latent) on the line between two, both ends included, and the share of `end` in each."""
    if steps < 2:
        raise ValueError(f"An interpolation of {steps} steps has no two ends; give at least 2 steps.")
    share = np.linspace(0.0, 1.0, steps)
    line = np.outer(1 - share, start.astype(np.float64)) + np.outer(share, end.astype(np.float64))
    return line.astype(np.float32), share


def move_genes(
    transform: ExpressionTransform,
    z: NDArray[np.float32],
    moved: NDArray[np.intp],
    by: float | NDArray[np.float64],
    scale: str = "sd",
) -> NDArray[np.float32]:
    """Scores with the genes at columns `moved` up (or down, `by` < 0) by SDs of the training split or by log units:
    all alike, or each by its own (moved,).

    Log units are the transform's: ln(1 + x) or ln(x), or log2 where the data are; of normal scores those of the
    training reference. A gene doesn't fall below no expression, or leave the ranks. Genes that didn't vary in training
    can't be moved: their score means nothing.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; choose {' or '.join(SCALES)}.")
    silent = moved[transform.constant[moved]]
    if len(silent):
        raise ValueError(
            f"{transform.genes[silent[0]]} has the same value in every training profile, so the model can't know it; "
            "leave it out."
        )
    edited = z.copy()
    if scale == "sd":
        edited[:, moved] += np.asarray(by * transform.spread[moved], np.float32)
    else:
        edited[:, moved] = transform.plus_log(z[:, moved], moved, by)
    edited[:, moved] = edited[:, moved].clip(*(bound[moved].astype(np.float32) for bound in transform.bounds))
    return edited


def leading_direction(z: NDArray[np.float32], moved: NDArray[np.intp]) -> NDArray[np.float64]:
    """How the genes at columns `moved` vary together over profiles (samples, genes), in Z scores a SD: their first
    principal component, with most of its weight upwards, (moved,)."""
    own = z[:, moved].astype(np.float64)
    own = own - own.mean(axis=0)
    _, scale, directions = np.linalg.svd(own, full_matrices=False)
    along = directions[0] * (1.0 if directions[0].sum() >= 0 else -1.0)
    return along * scale[0] / np.sqrt(len(own))


def fold_genes(
    x: NDArray[np.float32], moved: NDArray[np.intp], by: NDArray[np.float64], units: str
) -> NDArray[np.float32]:
    """Profiles (samples, genes) in `units` with the level of the genes at columns `moved` times e^`by`, (moved,).

    The total of a profile in TPM or counts stays, as sequencing to the same depth would have it; logarithms have none.
    Unmeasured genes stay NaN.
    """
    level = x.astype(np.float64)
    if units in LOGGED:
        level[:, moved] += by / (np.log(2) if units == "log2" else 1.0)
        return level.astype(np.float32)
    total = np.nansum(level, axis=1, keepdims=True)
    level[:, moved] *= np.exp(by)
    return (level * (total / np.maximum(np.nansum(level, axis=1, keepdims=True), 1e-30))).astype(np.float32)


def perturb(
    model: VAEModel, x: NDArray[np.floating], moved: NDArray[np.intp], by: float, scale: str = "sd"
) -> Perturbation:
    """Move genes of profiles (samples, the model's genes) in the model's units, NaN where unmeasured, and let the rest
    follow: encode and decode before and after, and add the difference.

    Thus a profile keeps what the latent doesn't hold; unmeasured genes come from the reconstruction. The encoder weighs
    one gene among all, so little follows a single one.
    """
    transform, unmeasured = model.transform, np.isnan(x)
    refuse_unmeasured(transform, x, moved)
    z = transform.apply(x, transform.genes, transform.units)
    edited = np.where(unmeasured, np.float32(np.nan), move_genes(transform, z, moved, by, scale))
    before, _ = reconstruct(model, x)
    after, _ = reconstruct(model, in_units(transform, edited))
    change = after - before
    followed = np.where(unmeasured, after, z + change)
    followed[:, moved] = edited[:, moved]
    return Perturbation(edited, followed, change)


def refuse_unmeasured(transform: ExpressionTransform, x: NDArray[np.floating], moved: NDArray[np.intp]) -> None:
    """Raise `ValueError` where a gene at columns `moved` is NaN in any of the profiles (samples, genes)."""
    lacking = moved[np.isnan(x[:, moved]).any(axis=0)]
    if len(lacking):
        gene = transform.genes[lacking[0]]
        raise ValueError(f"{gene} wasn't measured in every profile, so it can't be moved; leave it out.")


def in_units(transform: ExpressionTransform, z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Profiles in the model's units of scores (samples, the model's genes); NaN stays."""
    return np.where(np.isnan(z), np.float32(np.nan), transform.invert(np.nan_to_num(z)))
