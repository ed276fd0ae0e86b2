"""Is one way of starting better than another, on the same folds? Two tests, for neither alone will do.

The folds share training data, so their differences aren't independent and a plain paired t-test finds too much: the
corrected one widens its variance for that. It sees as few values as there are folds. The permutation test sees every
donor, of predictions that were made without it, but takes the trained networks as given.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rnagan import rng

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
