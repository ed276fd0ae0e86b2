"""Paired tests of sources over readers, with Holm's correction, and how many readers a study needs."""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

MAX_READERS = 100_000  # that a plan looks at
_LEVEL = 0.95


class Paired(NamedTuple):
    """`first` less `second` over readers who saw both: mean, SD (n − 1) and 95% interval of the differences, Student's
    t with n − 1 degrees of freedom, p on both sides, p that `first` is no better (one side), and Holm's p.

    t, p and the interval are None with fewer than two readers, or where all differences are the same."""

    tissue: str
    first: str
    second: str
    readers: int
    difference: float
    sd: float | None
    low: float | None
    high: float | None
    t: float | None
    p: float | None
    p_first_better: float | None
    p_holm: float | None = None


def paired(tissue: str, first: str, second: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> Paired:
    """Student's paired t-test of scores a and b (readers,), float64; readers with a NaN in either are left out."""
    differences = (a - b)[np.isfinite(a) & np.isfinite(b)]
    count = len(differences)
    mean = float(differences.mean()) if count else float("nan")
    if count < 2:
        return Paired(tissue, first, second, count, mean, None, None, None, None, None, None)
    sd = float(differences.std(ddof=1))
    if sd <= 1e-12:
        return Paired(tissue, first, second, count, mean, sd, None, None, None, None, None)
    error = sd / np.sqrt(count)
    t = mean / error
    reach = float(stats.t.ppf((1 + _LEVEL) / 2, count - 1)) * error
    both, one = 2 * stats.t.sf(abs(t), count - 1), stats.t.sf(t, count - 1)
    return Paired(tissue, first, second, count, mean, sd, mean - reach, mean + reach, float(t), float(both), float(one))


def compare_sources(means: pd.DataFrame, sources: list[str]) -> list[Paired]:
    """Every two sources in every tissue. `means`: as `reader_scores.by_reader` gives them. Holm's correction goes over
    all tests of the list, which have p on both sides."""
    found = []
    for tissue in dict.fromkeys(means.columns.get_level_values("tissue")):
        there = [source for source in sources if (tissue, source) in means.columns]
        for first, second in itertools.combinations(there, 2):
            a, b = (means[tissue, source].to_numpy(np.float64) for source in (first, second))
            found.append(paired(tissue, first, second, a, b))
    tested = [k for k, test in enumerate(found) if test.p is not None]
    for k, p in zip(tested, holm(np.array([found[k].p for k in tested], np.float64)), strict=True):
        found[k] = found[k]._replace(p_holm=float(p))
    return found


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p (tests,) of Holm 1979: the k-th smallest times (m − k + 1), never below one before it, at most 1."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def power_of(readers: int, difference: float, sd: float, alpha: float, sides: int = 2) -> float:
    """Chance that a paired t-test of so many readers finds a true `difference`, whose SD over readers is `sd`.

    Of the noncentral t distribution with readers − 1 degrees of freedom; Cohen 1988, chapter 2.
    """
    if readers < 2:
        return 0.0
    shift = abs(difference) / sd * np.sqrt(readers)
    limit = stats.t.ppf(1 - alpha / sides, readers - 1)
    found = stats.nct.sf(limit, readers - 1, shift)
    return float(found + (stats.nct.cdf(-limit, readers - 1, shift) if sides == 2 else 0.0))


def readers_needed(difference: float, sd: float, alpha: float, power: float, sides: int = 2) -> int:
    """The least number of readers with which `power_of` reaches `power`.

    `ValueError` where a setting is out of range, or more than MAX_READERS would be needed.
    """
    for name, value in (("difference", abs(difference)), ("SD", sd)):
        if not value > 0:
            raise ValueError(f"A plan needs a {name} above 0, not {value:g}.")
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError("A plan needs a level and a power between 0 and 1.")
    low, high = 1, 2
    while power_of(high, difference, sd, alpha, sides) < power:
        low, high = high, 2 * high
        if high > MAX_READERS:
            raise ValueError(f"More than {MAX_READERS:,} readers would be needed; plan for a larger difference.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle, difference, sd, alpha, sides) >= power else (middle, high)
    return high
