"""Accuracy, F1 and AUC of predicted classes, with intervals that resample whole donors (or whole profiles)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from rnagan.evaluation.stats import Values, bootstrap_counts
from rnagan.runtime import rng

Counts = NDArray[np.int64]
Measure = Callable[[NDArray], Values]

DRAWS = 2000


def confusions(labels: Counts, predicted: Counts, units: Counts, classes: int) -> Counts:
    """The confusion matrix (true, predicted) of each unit: (units, classes, classes).

    `labels`, `predicted` (tiles,): number of the class; `units` (tiles,): number of the donor or profile of each tile.
    """
    matrices = np.zeros((int(units.max()) + 1, classes, classes), np.int64)
    np.add.at(matrices, (units, labels, predicted), 1)
    return matrices


def accuracy(confusion: NDArray) -> Values:
    """Share of tiles whose class is right, (…,), of confusion matrices (…, classes, classes)."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def macro_f1(confusion: NDArray) -> Values:
    """Mean over classes of F1 = 2·TP / (2·TP + FP + FN), (…,), of confusion matrices (…, classes, classes).

    A class that no tile has and that is never predicted doesn't count.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true_and_predicted = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.nanmean(2 * right / true_and_predicted, axis=-1)


MEASURES: dict[str, Measure] = {"accuracy": accuracy, "f1": macro_f1}
RECORDED = {"accuracy": "accuracy", "f1": "macro_f1", "auc": "auc"}  # names in records of evaluations


def auc(labels: Counts, probabilities: Values, weights: NDArray | None = None) -> float:
    """Area under the ROC curve; with more than two classes the mean of each against the rest (macro).

    `labels` (tiles,), `probabilities` (tiles, classes), `weights` (tiles,).
    """
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1], sample_weight=weights))
    return float(roc_auc_score(labels, probabilities, sample_weight=weights, multi_class="ovr", average="macro"))


def resamples(strata: Counts, seed: int, draws: int = DRAWS) -> Counts:
    """How often each unit is in each bootstrap resample, (draws, units), drawn within `strata` (units,)."""
    return bootstrap_counts(rng.generator(seed, "classifier resamples"), len(strata), draws, strata)


def mean_over_folds(matrices: Counts, folds: Counts, measure: Measure, counts: Counts | None = None) -> Values:
    """The mean over folds of a measure of each fold's summed confusion matrix.

    `matrices` (units, classes, classes); `folds` (units,): the fold that tests each unit. `counts` (draws, units): how
    often each unit is in each resample. Returns one value a resample (draws,), or without `counts` the one value (1,).
    """
    values = [
        pooled(matrices[folds == fold], measure, None if counts is None else counts[:, folds == fold])
        for fold in np.unique(folds)
    ]
    return np.mean(values, axis=0)


def pooled(matrices: Counts, measure: Measure, counts: Counts | None = None) -> Values:
    """A measure of the summed confusion matrix of all units; arguments and shape as in `mean_over_folds`."""
    counts = np.ones((1, len(matrices)), np.int64) if counts is None else counts
    return measure(np.tensordot(counts, matrices, axes=1))
