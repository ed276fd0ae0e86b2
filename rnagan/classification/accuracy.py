"""Accuracy, F1 and AUC, and what they would be with other people: resamples of donors, or of profiles."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from rnagan.runtime import rng

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Measure = Callable[[NDArray], Values]

DRAWS = 2000


def confusions(labels: Counts, called: Counts, units: Counts, classes: int) -> Counts:
    """A confusion matrix (true, called) of each unit 0 … n−1 that tiles are of: (units, classes, classes)."""
    found = np.zeros((int(units.max()) + 1, classes, classes), np.int64)
    np.add.at(found, (units, labels, called), 1)
    return found


def accuracy(confusion: NDArray) -> Values:
    """Share of tiles called right of confusion matrices (…, classes, classes)."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def macro_f1(confusion: NDArray) -> Values:
    """Mean over classes of F1 = 2·TP / (2·TP + FP + FN); a class that is neither there nor called doesn't count."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    there_and_called = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.nanmean(2 * right / there_and_called, axis=-1)


MEASURES: dict[str, Measure] = {"accuracy": accuracy, "f1": macro_f1}


def auc(labels: Counts, probabilities: Values, weights: NDArray | None = None) -> float:
    """Area under the ROC curve; of more than two classes the mean of one against the rest (macro)."""
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1], sample_weight=weights))
    return float(roc_auc_score(labels, probabilities, sample_weight=weights, multi_class="ovr", average="macro"))


def resamples(strata: Counts, seed: int, draws: int = DRAWS) -> Counts:
    """How often each unit is drawn in each bootstrap resample, (draws, units): within each stratum, as many units as it
    has, with replacement."""
    random = rng.generator(seed, "classifier resamples")
    counts = np.zeros((draws, len(strata)), np.int64)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        counts[:, own] = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=draws)
    return counts


def mean_over_folds(of_units: Counts, folds: Counts, measure: Measure, counts: Counts | None = None) -> Values:
    """The mean over folds of a measure of each fold's summed confusion matrix.

    `of_units` (units, C, C), `folds` (units,): in which fold a donor is tested. With resamples `counts` (draws, units)
    one value a draw (draws,), else one (1,).
    """
    counts = np.ones((1, len(of_units)), np.int64) if counts is None else counts
    values = [measure(_summed(counts[:, folds == fold], of_units[folds == fold])) for fold in np.unique(folds)]
    return np.mean(values, axis=0)


def _summed(counts: Counts, of_units: Counts) -> Counts:
    return np.tensordot(counts, of_units, axes=1)


def overall(of_units: Counts, measure: Measure, counts: Counts | None = None) -> Values:
    """A measure of all units' summed confusion matrix: one value a draw, or one (1,)."""
    counts = np.ones((1, len(of_units)), np.int64) if counts is None else counts
    return measure(_summed(counts, of_units))


def interval(values: Values) -> tuple[float, float]:
    """The 95% percentile interval of resampled values."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
