"""What missing genes cost: genes are hidden from complete profiles, and the model's answer is held against the truth.

The article sets the missing genes of an external cohort to zero, the training mean (STAR Methods, RNA-seq data
preprocessing). How the model takes them is the model's affair: here they are NaN.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.evaluation.reconstruction import knn_accuracy
from rnagan.expression.genes import gene_id
from rnagan.models.trained_vae import VAEModel
from rnagan.runtime import rng

SHARES = (0.05, 0.2, 0.4)
REPEATS = 5


class Gap(NamedTuple):
    """Genes that a cohort lacks: `hidden` bool (genes,); `share` asked for, NaN of a real gap; `repeat` from 0."""

    name: str
    share: float
    repeat: int
    hidden: NDArray[np.bool_]


def random_gaps(genes: int, shares: Sequence[float] = SHARES, repeats: int = REPEATS, seed: int = 0) -> list[Gap]:
    """`repeats` gaps of each share, each of exactly round(share · genes); those of smaller shares lie in larger ones.

    All profiles of a gap lack the same genes, as the profiles of a cohort do.
    """
    if not all(0 < share < 1 for share in shares):
        raise ValueError(f"Shares of missing genes lie between 0 and 1, not at {', '.join(map(str, shares))}.")
    order = np.argsort(rng.uniform(seed, "missing genes", 0, repeats, genes), axis=1)
    ranks = np.argsort(order, axis=1)
    return [Gap(f"{share:.0%}", share, n, ranks[n] < round(share * genes)) for share in shares for n in range(repeats)]


def real_gap(name: str, genes: Sequence[str], present: Sequence[str]) -> Gap:
    """The gap of another cohort, which has the genes `present` alone; raises where it has none of `genes`, or all."""
    known = {gene_id(gene) for gene in present}
    hidden = np.array([gene_id(gene) not in known for gene in genes])
    if hidden.all() or not hidden.any():
        has = "none" if hidden.all() else "all"
        raise ValueError(f"{name} has {has} of the model's {len(genes):,} genes, so it says nothing of missing ones.")
    return Gap(name, np.nan, 0, hidden)


def cost_of_gaps(
    model: VAEModel,
    x: NDArray[np.float32],
    tissues: NDArray[np.str_],
    train_latents: NDArray[np.float32],
    train_tissues: NDArray[np.str_],
    genes: Sequence[str],
    gaps: Sequence[Gap],
) -> pd.DataFrame:
    """One row a gap, after one named `none` for the complete profiles `x` (samples, genes) in the model's units.

    `rmse` of the reconstruction in Z scores, over all varying genes, and `rmse_missing` over the hidden ones;
    `rmse_missing_mean` is that of the training mean in their place. `tissue_knn`: accuracy by neighbours in the latent
    (`LatentSpace.neighbour_units`). `moved_sd`: how far the latents are from those of the complete profiles, RMS over
    samples and active units, in SDs of the training split.
    """
    with warnings.catch_warnings():  # that genes are missing is the point
        warnings.simplefilter("ignore", UserWarning)
        complete = model.encode(x, genes, model.transform.units).latents
        truth = model.transform.apply(x, genes, model.transform.units).astype(np.float64)
        whole, train = model.space.standardised(complete), model.space.neighbour_units(train_latents)
        column = {gene_id(gene): i for i, gene in enumerate(genes)}
        place = np.array([column[gene] for gene in model.transform.genes])
        varying = ~model.transform.constant
        rows = []
        for gap in (Gap("none", 0.0, 0, np.zeros(len(genes), np.bool_)), *gaps):
            latents = model.encode(np.where(gap.hidden, np.nan, x), genes, model.transform.units).latents
            off, moved = model.decode(latents) - truth, model.space.standardised(latents) - whole
            hidden = gap.hidden[place] & varying
            rows.append(
                {
                    "gap": gap.name,
                    "share": gap.hidden[place].mean(),
                    "repeat": gap.repeat,
                    "rmse": _rms(off[:, varying]),
                    "rmse_missing": _rms(off[:, hidden]),
                    "rmse_missing_mean": _rms(truth[:, hidden]),
                    "tissue_knn": knn_accuracy(train, train_tissues, model.space.neighbour_units(latents), tissues),
                    "moved_sd": _rms(moved),
                }
            )
    return pd.DataFrame(rows).astype({"tissue_knn": float})  # NaN where no unit is active


def _rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.square(values).mean())) if values.size else float("nan")
