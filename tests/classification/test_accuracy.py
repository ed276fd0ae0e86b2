"""Measures against scikit-learn's, and resamples of whole donors."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from rnagan.classification import accuracy
from rnagan.evaluation.stats import interval


@pytest.mark.parametrize("classes", [2, 3])
def test_measures_are_scikit_learns(classes: int) -> None:
    draw = np.random.default_rng(0)
    labels, predicted = draw.integers(0, classes, (2, 200))
    labels[:120] = predicted[:120]
    units = draw.integers(0, 9, 200)
    whole = accuracy.confusions(labels, predicted, units, classes).sum(axis=0)
    assert accuracy.accuracy(whole) == pytest.approx(accuracy_score(labels, predicted))
    assert accuracy.macro_f1(whole) == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert (
        abs(accuracy.macro_f1(whole) - f1_score(labels, predicted, average="weighted")) > 1e-4
    )  # not the weighted one
    probabilities = draw.dirichlet(np.ones(classes), 200)
    expected = (
        roc_auc_score(labels, probabilities[:, 1])
        if classes == 2
        else np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in range(3)])
    )
    assert accuracy.auc(labels, probabilities) == pytest.approx(expected)


def test_a_class_that_is_nowhere_does_not_count() -> None:
    assert accuracy.macro_f1(np.array([[3, 0], [0, 0]])) == 1
    assert accuracy.macro_f1(np.array([[3, 0], [1, 0]])) == pytest.approx((6 / 7 + 0) / 2)


def test_resamples_keep_the_size_of_each_stratum() -> None:
    strata = np.array([0, 1, 0, 1, 1, 0, 0])
    counts = accuracy.resamples(strata, seed=0, draws=500)
    assert (counts[:, strata == 0].sum(axis=1) == 4).all() and (counts[:, strata == 1].sum(axis=1) == 3).all()
    assert counts.std(axis=0).min() > 0.5
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.15)
    assert (counts == accuracy.resamples(strata, seed=0, draws=500)).all()
    assert (counts != accuracy.resamples(strata, seed=1, draws=500)).any()


def test_means_over_folds_are_those_of_each_folds_own_matrix() -> None:
    of_units = np.array([[[2, 0], [0, 2]], [[1, 1], [0, 0]], [[0, 3], [0, 5]]])
    folds = np.array([0, 0, 1])
    expected = (5 / 6 + 5 / 8) / 2
    assert accuracy.mean_over_folds(of_units, folds, accuracy.accuracy) == pytest.approx(expected)
    assert accuracy.pooled(of_units, accuracy.accuracy) == pytest.approx(10 / 14)
    counts = np.array([[2, 0, 1]])  # the second donor isn't drawn, the first twice
    assert accuracy.mean_over_folds(of_units, folds, accuracy.accuracy, counts) == pytest.approx((1 + 5 / 8) / 2)


def test_few_donors_make_a_wide_interval_and_tiles_would_make_it_too_narrow() -> None:
    """Twelve donors who are right or wrong as a whole, twenty tiles each."""
    right = np.repeat([1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0], 20)
    widths = []
    for units in (np.arange(240) // 20, np.arange(240)):
        of_units = accuracy.confusions(np.ones(240, int), right, units, 2)
        counts = accuracy.resamples(np.zeros(len(of_units), int), 0)
        low, high = interval(accuracy.pooled(of_units, accuracy.accuracy, counts))
        widths.append(high - low)
    assert widths[0] == pytest.approx(2 * 1.96 * (8 / 12 * 4 / 12 / 12) ** 0.5, rel=0.2)
    assert widths[1] < widths[0] / 3
