"""How well a β-VAE rebuilds profiles and keeps tissues apart, beside PCA with as many components as active units.

The article gives 39% mean absolute error percentage and RMSE 0.631 on its test split (Results) without formulas, and
the released code compares values put back into log units. Here RMSE is over genes and samples, in Z scores first and in
log units too, and the mean absolute error percentage is 100 · Σ|x − x̂| / Σ|x| of log expression. Genes that don't vary
in the training split are left out: nobody can get them wrong.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.evaluation.stats import pearson
from rnagan.expression.transform import ExpressionTransform

NEIGHBOURS = 5

Values = NDArray[np.floating]


class PCAModel(NamedTuple):
    """Principal components of training Z scores: `components` (k, genes), `mean` (genes,)."""

    components: NDArray[np.float64]
    mean: NDArray[np.float64]

    def scores(self, z: Values) -> NDArray[np.float64]:
        """Scores (samples, k) of Z scores (samples, genes)."""
        return (z - self.mean) @ self.components.T

    def reconstruct(self, z: Values) -> NDArray[np.float64]:
        """Z scores (samples, genes) from their own scores."""
        return self.scores(z) @ self.components + self.mean


def fit_pca(z_train: Values, components: int) -> PCAModel:
    """Of Z scores (samples, genes); fewer than `components` where samples or genes are fewer. 0 gives the mean."""
    from sklearn.decomposition import PCA

    k = min(components, len(z_train) - 1, z_train.shape[1])
    if k < 1:
        return PCAModel(np.zeros((0, z_train.shape[1])), z_train.mean(axis=0, dtype=np.float64))
    fitted = PCA(k, random_state=0).fit(z_train.astype(np.float64))
    return PCAModel(fitted.components_, fitted.mean_)


def errors(z: Values, z_hat: Values, transform: ExpressionTransform) -> dict[str, float]:
    """Errors over all samples and varying genes of scores (samples, genes) and their reconstructions.

    `rmse_z` in the transform's scores and `rmse_log`; `absolute_error_percent`, 100 · Σ|x − x̂| / Σ|x| of log
    expression; beside it `percentage_error_nonzero`, the plain mean of 100 · |x − x̂| / |x| where x isn't 0, which grows
    without bound as x nears 0.
    """
    varying = ~transform.constant
    x, x_hat = (transform.logged(a)[:, varying] for a in (z, z_hat))
    z, z_hat = (np.asarray(a, np.float64)[:, varying] for a in (z, z_hat))
    off, there = np.abs(x - x_hat), np.abs(x) > 1e-6  # Z scores are float32: a zero comes back as 1e-8
    return {
        "rmse_z": float(np.sqrt(np.square(z - z_hat).mean())),
        "rmse_log": float(np.sqrt(np.square(x - x_hat).mean())),
        "absolute_error_percent": float(100 * off.sum() / np.abs(x).sum()),
        "percentage_error_nonzero": float(100 * (off[there] / np.abs(x[there])).mean()),
    }


def rmse_per_profile(z: Values, z_hat: Values, transform: ExpressionTransform) -> NDArray[np.float64]:
    """RMSE over the varying genes of each profile, in Z scores, (samples,)."""
    varying = ~transform.constant
    return np.sqrt(np.square(np.asarray(z, np.float64) - z_hat)[:, varying].mean(axis=1))


def per_gene(z: Values, z_hat: Values) -> pd.DataFrame:
    """`pearson`, `r2` and `rmse` (encoder units) of each gene over samples; NaN where a gene doesn't vary in them.

    R² is 1 − Σ(x − x̂)² / Σ(x − mean)², with the mean of these samples: below 0, the mean of the cohort was better. It
    doesn't depend on whether x is in Z scores or log units.
    """
    x: NDArray[np.float64] = np.asarray(z, np.float64)
    x_hat: NDArray[np.float64] = np.asarray(z_hat, np.float64)
    squares = np.square(x - x.mean(axis=0)).sum(axis=0)
    off = np.square(x - x_hat)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(squares > 0, 1 - off.sum(axis=0) / squares, np.nan)
    r = np.where(squares > 0, pearson(x.T, x_hat.T), np.nan)
    return pd.DataFrame({"pearson": r, "r2": r2, "rmse": np.sqrt(off.mean(axis=0))})


def nearest_tissues(
    train: Values, train_tissues: NDArray[np.str_], points: Values, k: int = NEIGHBOURS
) -> NDArray[np.str_]:
    """Tissue of most of the `k` nearest training points, Euclidean, for each of `points` (samples, dimensions)."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(min(k, len(train))).fit(train, train_tissues).predict(points)


def knn_accuracy(
    train: Values, train_tissues: NDArray[np.str_], points: Values, tissues: NDArray[np.str_], k: int = NEIGHBOURS
) -> float | None:
    """Share of `points` whose nearest training points call their tissue; None without dimensions or points."""
    if not train.shape[1] or not len(points):
        return None
    return float((nearest_tissues(train, train_tissues, points, k) == tissues).mean())


def scatter_within(z: Values, tissues: NDArray[np.str_]) -> float:
    """RMS over genes and samples of the deviation from the tissue's mean: how much profiles of a tissue differ."""
    return float(np.sqrt(np.square(_within(z, tissues)).mean()))


def r2_within(z: Values, z_hat: Values, tissues: NDArray[np.str_]) -> float | None:
    """R² of what is left of profiles (samples, genes) after their tissue's mean: the part of a reconstruction that is
    the donor's own.

    1 − Σ(d − d̂)² / Σd² over samples and genes, where d and d̂ are deviations of `z` and `z_hat` from their means over
    the samples of a tissue. None where no tissue has two samples that differ.
    """
    own, rebuilt = _within(z, tissues), _within(z_hat, tissues)
    total = np.square(own).sum()
    return float(1 - np.square(own - rebuilt).sum() / total) if total else None


def _within(z: Values, tissues: NDArray[np.str_]) -> NDArray[np.float64]:
    """Deviations (samples, genes) from the mean of each sample's tissue."""
    off: NDArray[np.float64] = np.array(z, np.float64)
    for tissue in np.unique(tissues):
        off[tissues == tissue] -= off[tissues == tissue].mean(axis=0)
    return off
