"""What stands beside a model on real pairs: a linear model of the same condition, and real tiles of other spots."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from rnagan.evaluation.retrieval import places
from rnagan.evaluation.stats import Values, pearson

PENALTIES = np.logspace(0, 5, 21)  # of the ridge regression
FOLDS = 5  # of training spots, where they are of one section


class GeneAgreement(NamedTuple):
    """Correlations of genes with a measure, on real and on generated tiles, over `genes` genes: how they agree (`r`),
    the share of them with one sign (`signs`), and how steep the generated are on the real ones (`slope`)."""

    r: float
    signs: float
    slope: float
    genes: int


def centred(values: NDArray[np.floating], groups: NDArray) -> Values:
    """Values (spots, …) less the mean of their group, of sections of which each has its own stain."""
    found = np.array(values, np.float64)
    for group in np.unique(groups):
        found[groups == group] -= found[groups == group].mean(axis=0)
    return found


def ridge(c_train: Values, y_train: Values, sections: NDArray, c: Values) -> Values:
    """Outcomes (spots, outcomes) that a ridge regression on the condition foretells for spots of conditions `c` (spots,
    units), but for an offset.

    `c_train` (train, units), `y_train` (train, outcomes), and the section of each. Outcomes are taken around their
    section's mean. The strength of each outcome is that of PENALTIES that foretells left-out sections best or, where
    there is one section, left-out bands of it in the order given: no held-out spot has a part in it.
    """
    y = centred(y_train, sections)
    folds = np.unique(sections, return_inverse=True)[1]
    if folds.max() == 0:
        folds = np.arange(len(y)) * FOLDS // len(y)
    mean = c_train.mean(axis=0)
    error = np.zeros((len(PENALTIES), y.shape[1]))
    for fold in range(folds.max() + 1):
        out = folds == fold
        error += np.square(_solutions(c_train[~out] - mean, y[~out], c_train[out] - mean) - y[out]).sum(axis=1)
    every = _solutions(c_train - mean, y, c - mean)
    return every[error.argmin(axis=0), :, np.arange(y.shape[1])].T


def _solutions(x: Values, y: Values, at: Values) -> Values:
    """Ridge predictions of each of PENALTIES, (penalties, at, outcomes)."""
    u, s, rows = np.linalg.svd(x, full_matrices=False)
    start = y.mean(axis=0)
    shrunk = s / (s**2 + PENALTIES[:, None])
    return (at @ rows.T) @ (shrunk[:, :, None] * (u.T @ (y - start))) + start


def nearest_in_expression(c_train: Values, c: Values) -> NDArray[np.intp]:
    """The training spot (train, units) whose condition is nearest to each of `c` (spots, units)."""
    return cKDTree(c_train).query(c)[1]


def own_places(found: Values, real: Values) -> Values:
    """The place of each spot's own real tile among those of its section, by the angle between it and what is `found` of
    the spot, both (spots, features) around their means: 0 nearest, 1 farthest, 0.5 by chance; (spots,).

    An angle, since what is foretold is shrunk towards the mean: by distance all would lie next to the section's most
    ordinary tiles.
    """
    distance = -_directions(found) @ _directions(real).T
    own = np.arange(len(real))
    return places(distance, own)[own, own]


def _directions(vectors: Values) -> Values:
    """Rows at length 1; zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def gene_agreement(expression: Values, real: Values, generated: Values) -> GeneAgreement:
    """`expression` (spots, genes), and a measure of real and generated tiles (spots,) of one section."""
    varies = (np.ptp(expression, axis=0) > 0) & bool(np.ptp(real) and np.ptp(generated))
    if varies.sum() < 2:
        return GeneAgreement(float("nan"), float("nan"), float("nan"), int(varies.sum()))
    on_real, on_generated = (pearson(expression.T[varies], each[None]) for each in (real, generated))
    r = float(pearson(on_real, on_generated))
    slope = r * float(np.std(on_generated) / np.std(on_real))
    signs = float((np.sign(on_real) == np.sign(on_generated)).mean())
    return GeneAgreement(r, signs, slope, int(varies.sum()))
