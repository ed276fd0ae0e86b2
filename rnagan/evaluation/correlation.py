"""How a claim about RNA is measured: signed correlation within a tissue over held-out donors (DESIGN.md)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan import rng

Values = NDArray[np.float64]

FEWEST_DONORS = 3


class Correlation(NamedTuple):
    """Pearson `r` of measured on expected over donors, `slope` of the regression, 95% interval `low`–`high` of r over
    donors, and `p` of a two-sided permutation test."""

    r: float
    slope: float
    low: float
    high: float
    p: float
    donors: int


def correlate(
    expected: Values, measured: Values, seed: int = 0, strata: NDArray | None = None, draws: int = 4999
) -> Correlation:
    """Correlate one tissue's donors: `expected` and `measured` (donors,), one value a donor.

    The interval is the percentile bootstrap over donors. The permutation test shuffles `measured` over donors, within
    `strata` (centres, say) where given; its smallest p is 1 / (draws + 1). A measure without any variation is
    reported as r = 0, slope = 0, p = 1.
    """
    expected, measured = np.asarray(expected, np.float64), np.asarray(measured, np.float64)
    if len(expected) < FEWEST_DONORS:
        raise ValueError(
            f"A correlation over {len(expected)} donors says nothing; at least {FEWEST_DONORS} are needed."
        )
    if not np.std(expected) or not np.std(measured):
        return Correlation(0.0, 0.0, 0.0, 0.0, 1.0, len(expected))
    random = rng.generator(seed, "correlation")
    r = float(pearson(expected, measured))
    chosen = random.integers(0, len(expected), (draws, len(expected)))
    low, high = np.nanpercentile(pearson(expected[chosen], measured[chosen]), [2.5, 97.5])
    null = pearson(expected, measured[permutations(random, strata, draws, len(expected))])
    p = (1 + np.count_nonzero(np.abs(null) >= abs(r) - 1e-12)) / (draws + 1)
    slope = r * np.std(measured) / np.std(expected)
    return Correlation(r, float(slope), float(low), float(high), float(p), len(expected))


def pearson(x: Values, y: Values) -> Values:
    """Pearson correlation along the last axis, with broadcasting."""
    x = x - x.mean(axis=-1, keepdims=True)
    y = y - y.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of one donor has no variation: NaN
        return (x * y).sum(axis=-1) / np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))


def permutations(random: np.random.Generator, strata: NDArray | None, draws: int, n: int) -> NDArray[np.int64]:
    """`draws` permutations of range(n), each within the strata."""
    groups = np.zeros(n, np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    home = np.argsort(groups, kind="stable")
    keys = random.random((draws, n)) + groups  # sorting by (group, random) shuffles within groups
    shuffled = np.empty((draws, n), np.int64)
    shuffled[:, home] = np.argsort(keys, axis=1)
    return shuffled
