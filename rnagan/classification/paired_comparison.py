"""What a cross-validation found: scores of every start, and every difference tested twice."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rnagan.classification import accuracy
from rnagan.classification.classifier import SCRATCH, SIMCLR
from rnagan.classification.cross_validation import OutOfFold, Rows
from rnagan.classification.labelled_tiles import Labelled
from rnagan.runtime import rng

Values = NDArray[np.float64]


class TTest(NamedTuple):
    """Mean difference, and the test of it; t and p are None where all folds differ by the same."""

    difference: float
    t: float | None
    p: float | None
    degrees: int


def corrected_t_test(differences: Values, test_over_train: float) -> TTest:
    """The corrected resampled t-test of differences (folds,) (Nadeau & Bengio 2003, section 5; two-sided).

    t = mean / √((1/k + n_test/n_train) · s²) with k − 1 degrees of freedom; `test_over_train` is n_test/n_train, and 0
    would give the plain paired t-test.
    """
    differences = np.asarray(differences, np.float64)
    count, mean, variance = len(differences), float(differences.mean()), float(differences.var(ddof=1))
    if variance <= 1e-20:
        return TTest(mean, None, None, count - 1)
    t = mean / np.sqrt((1 / count + test_over_train) * variance)
    return TTest(mean, float(t), float(2 * stats.t.sf(abs(t), count - 1)), count - 1)


class PermutationTest(NamedTuple):
    """Difference of the shares of tiles called right, and the two-sided p of the test over donors."""

    difference: float
    p: float
    donors: int


def donor_permutation_test(
    first: NDArray[np.bool_], second: NDArray[np.bool_], donors: NDArray, seed: int, draws: int = 9999
) -> PermutationTest:
    """Swap both classifiers' answers for whole donors at random: is `second` right more often than `first`?

    `first`, `second` (tiles,): whether each is right about a tile; `donors` (tiles,): whose it is. All 2ⁿ swaps are
    made where those are no more than `draws` (scipy.stats.permutation_test, samples).
    """
    _, unit = np.unique(donors, return_inverse=True)
    right = [np.bincount(unit, weights=answers.astype(np.float64)) for answers in (first, second)]

    def difference(one: NDArray, other: NDArray, axis: int = -1) -> Values:
        return (other.sum(axis=axis) - one.sum(axis=axis)) / len(unit)

    found = float(difference(right[0], right[1]))
    if len(right[0]) < 2:
        return PermutationTest(found, 1.0, len(right[0]))
    test = stats.permutation_test(
        right,
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        rng=rng.generator(seed, "donor permutations"),
    )
    return PermutationTest(found, float(test.pvalue), len(right[0]))


ARTICLE = {  # figure S4: mean and SD over five folds
    SCRATCH: {"accuracy": (0.7671, 0.0451), "f1": (0.7667, 0.0452)},
    SIMCLR: {"accuracy": (0.8550, 0.0154), "f1": (0.8549, 0.0154)},
}


def compare(
    data: Labelled, folds: list[tuple[Rows, Rows]], classes: list[str], found: dict[str, OutOfFold], seed: int
) -> dict[str, Any]:
    """`starts`: mean, SD (n − 1) and values over folds of each start's scores, with a bootstrap interval over donors
    (drawn within their fold), and its confusion matrices; `comparisons`: of every two, both paired tests; `scores`: all
    of them in one list."""
    donors, unit = np.unique(data.donors, return_inverse=True)
    fold_of = np.empty(len(donors), np.int64)
    for number, (_, test) in enumerate(folds):
        fold_of[unit[test]] = number
    counts = accuracy.resamples(fold_of, seed)
    right: dict[str, Any] = {}
    told: dict[str, Any] = {}
    drawn, listed = {}, []
    for start, out_of_fold in found.items():
        called = out_of_fold.probabilities.argmax(axis=1)
        right[start] = called == data.labels
        of_donors = accuracy.confusions(data.labels, called, unit, len(classes))
        told[start] = {"confusion": of_donors.sum(axis=0).tolist(), "training": out_of_fold.records}
        told[start]["confusion_by_fold"] = [of_donors[fold_of == k].sum(axis=0).tolist() for k in range(len(folds))]
        for name, measure in accuracy.MEASURES.items():
            by_fold = [float(measure(np.array(matrix))) for matrix in told[start]["confusion_by_fold"]]
            drawn[start, name] = accuracy.mean_over_folds(of_donors, fold_of, measure, counts)
            low, high = accuracy.interval(drawn[start, name])
            mean, sd = float(np.mean(by_fold)), float(np.std(by_fold, ddof=1))
            told[start][name] = {"mean": mean, "sd": sd, "low": low, "high": high, "folds": by_fold}
            listed.append({"name": f"{name}, {start}", "value": mean, "low": low, "high": high})
    compared = []
    ratio = float(np.mean([len(test) / len(train) for train, test in folds]))
    for first, second in combinations(found, 2):
        permuted = donor_permutation_test(right[first], right[second], data.donors, seed)
        for name in accuracy.MEASURES:
            differences = np.subtract(told[second][name]["folds"], told[first][name]["folds"])
            low, high = accuracy.interval(drawn[second, name] - drawn[first, name])
            tested = corrected_t_test(differences, ratio)
            compared.append(
                {"measure": name, "first": first, "second": second, "low": low, "high": high}
                | {"corrected_t_test": tested._asdict(), "difference": tested.difference}
                | ({"donor_permutation": permuted._asdict()} if name == "accuracy" else {})
            )
            listed.append(
                {"name": f"{name}, {second} less {first}", "value": tested.difference, "low": low, "high": high}
            )
    return {
        "scores": listed,
        "starts": told,
        "comparisons": compared,
        "article": ARTICLE,
        "test_over_train": ratio,
        "folds": [{"train": len(train), "test": len(test)} for train, test in folds],
    }
