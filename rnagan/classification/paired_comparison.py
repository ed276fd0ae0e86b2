"""Scores of a cross-validation for each start, and two paired tests of every difference between starts."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rnagan.classification import accuracy
from rnagan.classification.classifier import SCRATCH, SIMCLR
from rnagan.classification.cross_validation import OutOfFold, Rows
from rnagan.classification.labelled_tiles import Labelled
from rnagan.evaluation.stats import Values, interval
from rnagan.runtime import rng

ARTICLE = {  # figure S4: mean and SD over five folds
    SCRATCH: {"accuracy": (0.7671, 0.0451), "f1": (0.7667, 0.0452)},
    SIMCLR: {"accuracy": (0.8550, 0.0154), "f1": (0.8549, 0.0154)},
}


class TTest(NamedTuple):
    """Mean difference over folds and its test; t and p are None where the difference is the same in all folds."""

    difference: float
    t: float | None
    p: float | None
    degrees: int


def corrected_t_test(differences: Values, test_over_train: float) -> TTest:
    """The corrected resampled t-test of differences (folds,), two-sided (Nadeau & Bengio 2003, section 5).

    t = mean / √((1/k + n_test/n_train) · s²) with k − 1 degrees of freedom; `test_over_train` is n_test/n_train; 0
    would give the plain paired t-test.
    """
    differences = np.asarray(differences, np.float64)
    count, mean, variance = len(differences), float(differences.mean()), float(differences.var(ddof=1))
    if variance <= 1e-20:
        return TTest(mean, None, None, count - 1)
    t = mean / np.sqrt((1 / count + test_over_train) * variance)
    return TTest(mean, float(t), float(2 * stats.t.sf(abs(t), count - 1)), count - 1)


class PermutationTest(NamedTuple):
    """Difference of the shares of tiles classified right, and the two-sided p of the test over donors."""

    difference: float
    p: float
    donors: int


def donor_permutation_test(
    first: NDArray[np.bool_], second: NDArray[np.bool_], donors: NDArray, seed: int, draws: int = 9999
) -> PermutationTest:
    """Is `second` right more often than `first`? Swaps the answers of both classifiers for whole donors at random.

    `first`, `second` (tiles,): whether each classifier is right; `donors` (tiles,): the donor of each tile. All 2ⁿ
    swaps of n donors are made where those are no more than `draws` (scipy.stats.permutation_test, samples).
    """
    _, unit = np.unique(donors, return_inverse=True)
    right_by_donor = [np.bincount(unit, weights=right.astype(np.float64)) for right in (first, second)]
    count = len(right_by_donor[0])

    def difference(one: NDArray, other: NDArray, axis: int = -1) -> Values:
        return (other.sum(axis=axis) - one.sum(axis=axis)) / len(unit)

    found = float(difference(right_by_donor[0], right_by_donor[1]))
    if count < 2:
        return PermutationTest(found, 1.0, count)
    test = stats.permutation_test(
        right_by_donor,
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        rng=rng.generator(seed, "donor permutations"),
    )
    return PermutationTest(found, float(test.pvalue), count)


def compare(
    data: Labelled, folds: list[tuple[Rows, Rows]], classes: list[str], found: dict[str, OutOfFold], seed: int
) -> dict[str, Any]:
    """Score every start of a cross-validation, and test the difference of every two; JSON-able.

    `starts`: for each start its confusion matrices, and for each measure the mean, SD (n − 1) and values over folds,
    with a 95% bootstrap interval over donors, which are resampled within their test fold. `comparisons`: for every two
    starts and each measure the difference, its interval and both tests. `scores`: all these figures in one list.
    """
    donors, unit = np.unique(data.donors, return_inverse=True)
    fold_of = np.empty(len(donors), np.int64)
    for number, (_, test) in enumerate(folds):
        fold_of[unit[test]] = number
    counts = accuracy.resamples(fold_of, seed)
    ratio = float(np.mean([len(test) / len(train) for train, test in folds]))
    starts: dict[str, dict[str, Any]] = {}
    right: dict[str, NDArray[np.bool_]] = {}
    resampled: dict[tuple[str, str], Values] = {}
    for start, out_of_fold in found.items():
        predicted = out_of_fold.probabilities.argmax(axis=1)
        right[start] = predicted == data.labels
        matrices = accuracy.confusions(data.labels, predicted, unit, len(classes))
        starts[start] = {
            "confusion": matrices.sum(axis=0).tolist(),
            "confusion_by_fold": [matrices[fold_of == k].sum(axis=0).tolist() for k in range(len(folds))],
            "training": out_of_fold.records,
        }
        for name, measure in accuracy.MEASURES.items():
            by_fold = [float(measure(np.array(matrix))) for matrix in starts[start]["confusion_by_fold"]]
            resampled[start, name] = accuracy.mean_over_folds(matrices, fold_of, measure, counts)
            low, high = interval(resampled[start, name])
            mean, sd = float(np.mean(by_fold)), float(np.std(by_fold, ddof=1))
            starts[start][name] = {"mean": mean, "sd": sd, "low": low, "high": high, "folds": by_fold}
    comparisons = []
    for first, second in combinations(found, 2):
        permuted = donor_permutation_test(right[first], right[second], data.donors, seed)
        for name in accuracy.MEASURES:
            differences = np.subtract(starts[second][name]["folds"], starts[first][name]["folds"])
            tested = corrected_t_test(differences, ratio)
            low, high = interval(resampled[second, name] - resampled[first, name])
            comparison = {"measure": name, "first": first, "second": second, "difference": tested.difference}
            comparison |= {"low": low, "high": high, "corrected_t_test": tested._asdict()}
            if name == "accuracy":
                comparison["donor_permutation"] = permuted._asdict()
            comparisons.append(comparison)
    return {
        "scores": _score_list(starts, comparisons),
        "starts": starts,
        "comparisons": comparisons,
        "article": ARTICLE,
        "test_over_train": ratio,
        "folds": [{"train": len(train), "test": len(test)} for train, test in folds],
    }


def _score_list(starts: dict[str, dict[str, Any]], comparisons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every mean and every difference with its interval: name, value, low, high."""
    scores = [
        {"name": f"{name}, {start}", "value": of[name]["mean"], "low": of[name]["low"], "high": of[name]["high"]}
        for start, of in starts.items()
        for name in accuracy.MEASURES
    ]
    return scores + [
        {
            "name": f"{row['measure']}, {row['second']} less {row['first']}",
            "value": row["difference"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in comparisons
    ]


def recorded_differences(comparisons: list[dict[str, Any]], prefix: str = "") -> dict[str, dict[str, float]]:
    """The differences of `compare`, with their intervals, as a record of an evaluation names them."""
    return {
        f"{prefix}{row['second']} less {row['first']}/{accuracy.RECORDED[row['measure']]}": {
            "value": row["difference"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in comparisons
    }
