"""Statistics over donors: bootstraps, permutations, correlation, associations. Functions of arrays."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.runtime import rng

Values = NDArray[np.float64]

FEWEST_DONORS = 3
_RIDGE = 1e-9  # for each donor, so that a category that a resample lacks has a weight of 0
DONORS_A_COLUMN = 10  # so many let a model be evaluated on donors left out
_AT_ONCE = 100  # resamples that are worked on together: memory
_LEAST_SHARE = 1e-10  # of a variable's variance beyond the covariates; less is rounding, and nothing is left


def bootstrap(random: np.random.Generator, n: int, draws: int) -> NDArray[np.int64]:
    """`draws` resamples of range(n) with replacement, as row numbers (draws, n)."""
    return random.integers(0, n, (draws, n))


def bootstrap_counts(
    random: np.random.Generator, n: int, draws: int, strata: NDArray | None = None
) -> NDArray[np.int64]:
    """`draws` resamples of range(n) with replacement, as how often each is drawn, (draws, n): what weighted sums take.

    From each of the `strata` (n,) as many are drawn as it has.
    """
    groups = np.zeros(n, np.int64) if strata is None else np.asarray(strata)
    counts = np.zeros((draws, n), np.int64)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        counts[:, own] = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=draws)
    return counts


def permutations(random: np.random.Generator, strata: NDArray | None, draws: int, n: int) -> NDArray[np.int64]:
    """`draws` permutations of range(n), each within the strata."""
    groups = np.zeros(n, np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    home = np.argsort(groups, kind="stable")
    keys = random.random((draws, n)) + groups  # sorting by (group, random) shuffles within groups
    shuffled = np.empty((draws, n), np.int64)
    shuffled[:, home] = np.argsort(keys, axis=1)
    return shuffled


def interval(drawn: NDArray) -> tuple[Any, Any]:
    """The 95% percentile interval of resampled values (draws, …); resamples that are NaN don't count."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return low, high


def p_value(as_extreme: NDArray[np.bool_]) -> float:
    """The p of a permutation test: `as_extreme` (draws,) says which permutations were at least as extreme."""
    return float((1 + np.count_nonzero(as_extreme)) / (len(as_extreme) + 1))


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
    chosen = bootstrap(random, len(expected), draws)
    low, high = interval(pearson(expected[chosen], measured[chosen]))
    null = pearson(expected, measured[permutations(random, strata, draws, len(expected))])
    p = p_value(np.abs(null) >= abs(r) - 1e-12)
    slope = r * np.std(measured) / np.std(expected)
    return Correlation(r, float(slope), float(low), float(high), p, len(expected))


def pearson(x: Values, y: Values) -> Values:
    """Pearson correlation along the last axis, with broadcasting."""
    x = x - x.mean(axis=-1, keepdims=True)
    y = y - y.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of one donor has no variation: NaN
        return (x * y).sum(axis=-1) / np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))


class Interval(NamedTuple):
    """A figure and its 95% bootstrap interval over donors."""

    value: float
    low: float
    high: float


class Beyond(NamedTuple):
    """Agreement of x and y: `r` plain, `partial` given covariates, `along`: share of their covariance that runs along
    the covariates. `p`: of the partial correlation, two-sided."""

    r: Interval
    partial: Interval
    along: Interval
    p: float


def design(table: pd.DataFrame) -> Values:
    """Columns of a table (donors, …) as a design matrix float64 (donors, columns) without intercept: numbers around
    their mean in SDs, and a 0/1 column for each category but the first. Columns without variation are left out."""
    columns = []
    for name in table:
        if pd.api.types.is_numeric_dtype(table[name]):
            columns.append(table[name].to_numpy(np.float64))
        else:
            columns += [(table[name] == level).to_numpy(np.float64) for level in sorted(set(table[name]))[1:]]
    matrix = np.column_stack(columns) if columns else np.empty((len(table), 0))
    sd = matrix.std(axis=0)
    return (matrix - matrix.mean(axis=0))[:, sd > 0] / sd[sd > 0]


def enough(donors: int, columns: int) -> bool:
    """Whether there are two donors for each column of a design matrix and the intercept: enough to separate them."""
    return donors >= 2 * (columns + 1)


def eta_squared(groups: NDArray, y: Values, seed: int = 0, draws: int = 1999) -> tuple[Interval, float]:
    """Share of the variance of `y` (donors,) that lies between `groups` (donors,), and the p of a permutation test.

    The share is adjusted for what chance gives so many groups: ε² = 1 − (1 − η²)(n − 1)/(n − k) (Kelley 1935), which is
    0 on average where there is nothing, and may fall below. A resample adds chance of its own, so the interval is moved
    back by what resampling adds.
    """
    names, codes = np.unique(groups, return_inverse=True)
    member = np.eye(len(names))[codes]
    random = rng.generator(seed, "eta squared")
    found = _epsilon_squared(np.ones((1, len(y))), member, y)[0]
    drawn = np.concatenate([_epsilon_squared(weights, member, y) for weights in _resamples(random, len(y), draws)])
    centred = y - y.mean()
    between = np.square((centred[permutations(random, None, draws, len(y))]) @ member) @ (1 / member.sum(axis=0))
    own = float(np.square(centred @ member) @ (1 / member.sum(axis=0)))
    return _moved_back(found, drawn), p_value(between >= own * (1 - 1e-12))


def beyond(x: Values, y: Values, z: Values, seed: int = 0, draws: int = 1999) -> Beyond:
    """How much of the agreement of `x` and `y` (donors,) is left when `z` (donors, columns) is regressed out of both.

    p: Freedman & Lane 1983, residuals of y exchanged between donors. `along` is 1 − (residual covariance) /
    (covariance) with each over its degrees of freedom, so that columns that explain by chance count for nothing; it
    may lie outside 0 … 1, and means something only where x and y do agree. Nothing left of x or y is a partial
    correlation of 0, p = 1.
    """
    a, both = _with_intercept(z), np.column_stack([x, y])
    random = rng.generator(seed, "beyond")
    found = np.array(_agreement(a, np.ones((1, len(x))), both))[:, 0]
    drawn = np.concatenate([_agreement(a, weights, both) for weights in _resamples(random, len(x), draws)], axis=1)
    low, high = interval(np.where(np.isfinite(drawn), drawn, np.nan).T)
    r, partial = (Interval(*map(float, three)) for three in zip(found[:2], low[:2], high[:2], strict=True))
    along = _moved_back(found[2], drawn[2])
    left = both - a @ np.linalg.lstsq(a, both, rcond=None)[0]
    if (np.square(left).sum(axis=0) <= _LEAST_SHARE * np.square(both - both.mean(axis=0)).sum(axis=0)).any():
        return Beyond(r, Interval(0.0, 0.0, 0.0), along, 1.0)
    exchanged = left[:, 1][permutations(random, None, draws, len(x))]
    exchanged = exchanged - exchanged @ np.linalg.pinv(a).T @ a.T
    null = pearson(left[:, 0], exchanged)
    return Beyond(r, partial, along, p_value(np.abs(null) >= abs(partial.value) - 1e-12))


def partition(
    y: Values, parts: dict[str, Values], seed: int = 0, draws: int = 999, left_out: bool | None = None
) -> tuple[dict[str, Interval], str]:
    """Share of the variance of `y` (donors,) that two `parts`, each (donors, columns), explain beyond chance, and how
    it was measured.

    Under each part's name what it explains alone, `both`, `NAME only` (both − the other), and `shared` (the sum of the
    two − both): commonality analysis of linear models. Shares are R² in donors left out (`left_out_r2`) where there are
    DONORS_A_COLUMN for each column, else the adjusted R² (Ezekiel 1930), since a model of many columns predicts other
    donors worse than the mean does; below 0 is nothing. Intervals are moved back by what resampling adds.
    """
    (first, x), (second, z) = parts.items()
    models = {first: x, second: z, "both": np.column_stack([x, z])}
    if left_out is None:
        left_out = len(y) >= DONORS_A_COLUMN * (models["both"].shape[1] + 1)
    share = left_out_r2 if left_out else adjusted_r2
    random = rng.generator(seed, "partition")
    shares: dict[str, list[Values]] = {name: [] for name in models}
    for weights in [np.ones((1, len(y))), *_resamples(random, len(y), draws)]:
        for name, columns in models.items():
            shares[name].append(share(columns, y, weights))
    parted = {name: np.concatenate(each) for name, each in shares.items()}
    parted |= {f"{first} only": parted["both"] - parted[second], f"{second} only": parted["both"] - parted[first]}
    parted["shared"] = parted[first] + parted[second] - parted["both"]
    return {name: _moved_back(v[0], v[1:]) for name, v in parted.items()}, "left out" if left_out else "adjusted"


def adjusted_r2(x: Values, y: Values, weights: Values) -> Values:
    """R² of `y` (donors,) on `x` (donors, columns) less what chance gives, 1 − (1 − R²)(n − 1)/(n − columns − 1), of
    each of the resamples, (resamples,)."""
    a = _with_intercept(x)
    residual = _residuals(a, weights, y[:, None])[0][..., 0]
    around = y - (weights @ y / weights.sum(axis=1))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        unexplained = (weights * residual**2).sum(axis=1) / (weights * around**2).sum(axis=1)
    return 1 - unexplained * (len(y) - 1) / (len(y) - a.shape[1])


def left_out_r2(x: Values, y: Values, weights: Values) -> Values:
    """Cross-validated R², (resamples,): each donor left out in turn, with all its copies where `weights` (resamples,
    donors) says that a resample has several. `x` (donors, columns), `y` (donors,).

    The residual of a donor left out is e / (1 − h), h its leverage. A donor that alone has a category is predicted by
    the mean of the others.
    """
    a = _with_intercept(x)
    residual, inverse = _residuals(a, weights, y[:, None])
    leverage = weights * np.einsum("bni,ni->bn", a @ inverse, a)
    share = weights / weights.sum(axis=1, keepdims=True)
    by_mean = (y - (share @ y)[:, None]) / (1 - share)
    alone = leverage > 1 - 1e-6
    left_out = np.where(alone, by_mean, residual[..., 0] / np.where(alone, 1, 1 - leverage))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (weights * left_out**2).sum(axis=1) / (weights * by_mean**2).sum(axis=1)


def as_dict(**intervals: Interval) -> dict[str, Any]:
    """{name: value, name_low, name_high} of intervals, for JSON; NaN is None."""
    found = {}
    for name, three in intervals.items():
        for suffix, value in zip(("", "_low", "_high"), three, strict=True):
            found[name + suffix] = None if np.isnan(value) else value
    return found


def _moved_back(found: float, drawn: Values) -> Interval:
    """The percentile interval of `drawn` with its median at the figure: a resample's chance isn't the sample's."""
    drawn = drawn[np.isfinite(drawn)]  # a resample of a few donors may have no variation
    if not len(drawn):
        return Interval(float(found), np.nan, np.nan)
    low, high = interval(drawn - np.median(drawn) + found)
    return Interval(float(found), float(low), float(high))


def _agreement(a: Values, weights: Values, both: Values) -> tuple[Values, Values, Values]:
    """Correlation, partial correlation and share along the covariates, each (resamples,)."""
    plain = _moments(weights, both[None] - (weights @ both / weights.sum(axis=1, keepdims=True))[:, None])
    left = _moments(weights, _residuals(a, weights, both)[0])
    freedom = (len(both) - 1) / max(len(both) - a.shape[1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        r, partial = (xy / np.sqrt(xx * yy) for xx, xy, yy in (plain, left))
        return r, partial, 1 - freedom * left[1] / plain[1]


def _moments(weights: Values, both: Values) -> tuple[Values, Values, Values]:
    """Sums of xx, xy and yy of (resamples, donors, 2), each (resamples,)."""
    x, y = both[..., 0], both[..., 1]
    return (weights * x * x).sum(axis=1), (weights * x * y).sum(axis=1), (weights * y * y).sum(axis=1)


def _residuals(a: Values, weights: Values, y: Values) -> tuple[Values, Values]:
    """Residuals (resamples, donors, outcomes) of weighted least squares of `y` on `a`, and the inverses of aᵀwa."""
    donors, columns = a.shape
    gram = (weights @ (a[:, :, None] * a[:, None, :]).reshape(donors, -1)).reshape(-1, columns, columns)
    inverse = np.linalg.inv(gram + _RIDGE * donors * np.eye(columns))
    return y - a @ (inverse @ (a.T @ (weights[:, :, None] * y))), inverse


def _epsilon_squared(weights: Values, member: Values, y: Values) -> Values:
    """ε² of each resample, (resamples,); `member` (donors, groups) is 0 or 1."""
    n, counts, centred = weights.sum(axis=1), weights @ member, y - y.mean()
    total = weights @ centred**2 - (weights @ centred) ** 2 / n
    sums = (weights * centred) @ member
    between = (sums**2 / np.maximum(counts, 1)).sum(axis=1) - (weights @ centred) ** 2 / n
    groups = (counts > 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (1 - between / total) * (n - 1) / (n - groups)


def _with_intercept(z: Values) -> Values:
    return np.column_stack([np.ones(len(z)), z])


def _resamples(random: np.random.Generator, donors: int, draws: int) -> Iterator[Values]:
    """How often each donor is in each of `draws` resamples, some at a time, (resamples, donors)."""
    counts = bootstrap_counts(random, donors, draws).astype(np.float64)
    for start in range(0, draws, _AT_ONCE):
        yield counts[start : start + _AT_ONCE]


def by_donor(values: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean of each donor of `rows` (index sample; column donor), by donor; `values` by sample."""
    return values.loc[rows.index].groupby(rows["donor"]).mean()


def reliability(values: NDArray[np.float64], donors: NDArray) -> float:
    """Share of the variance of donors' means that lies between donors: 1 − (variance of a mean) / (variance of means).

    `values` (tiles,) and the donor of each; donors with one tile alone don't show how tiles vary. No correlation with
    these means can be expected above its square root (Spearman 1904). 0 or less: the means differ as chance makes them;
    NaN: unknown.
    """
    own = [values[donors == donor] for donor in np.unique(donors)]
    several = [x for x in own if len(x) > 1]
    means = np.array([x.mean() for x in own])
    if len(means) < 2 or not several or not np.var(means):
        return float("nan")
    within = sum(((x - x.mean()) ** 2).sum() for x in several) / sum(len(x) - 1 for x in several)
    return float(1 - within * np.mean([1 / len(x) for x in own]) / np.var(means, ddof=1))
