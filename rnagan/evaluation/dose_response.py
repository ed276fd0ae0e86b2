"""How morphology follows a step: curves over donors, and their slope beside what the truth expects."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.stats import FEWEST_DONORS, Values, bootstrap, interval
from rnagan.runtime import rng

_EXACT = 0.999  # squared correlation of a measure with the programme that makes it, in a truth table


def mean_with_interval(values: Values, seed: int = 0, draws: int = 2000) -> tuple[Values, Values, Values]:
    """Mean over donors of (donors, …), and the 95% bootstrap interval over donors; NaN of too few of them."""
    mean = values.mean(axis=0)
    if len(values) < FEWEST_DONORS:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    chosen = bootstrap(rng.generator(seed, "curve"), len(values), draws)
    low, high = interval(values[chosen].mean(axis=1))
    return mean, low, high


def slopes(steps: Values, values: Values, inside: NDArray[np.bool_] | None = None) -> Values:
    """Least-squares slope of each donor's values (donors, steps) on the steps, (donors,).

    `inside` (donors, steps): which points count; donors with fewer than two of them are NaN.
    """
    weight = np.ones_like(values) if inside is None else inside.astype(np.float64)
    count = weight.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = steps - (weight * steps).sum(axis=1, keepdims=True) / count
        y = values - (weight * values).sum(axis=1, keepdims=True) / count
        found = (weight * x * y).sum(axis=1) / (weight * x * x).sum(axis=1)
    return np.where(count[:, 0] >= 2, found, np.nan)


def expected_slopes(truth: pd.DataFrame, programme: str) -> dict[str, float]:
    """By measure: its change for one unit of `programme`, in a truth table of one tissue (columns of both).

    0 where the programme doesn't make the measure; measures that the tissue hasn't are left out.
    """
    cause = truth[programme].to_numpy(np.float64)
    found = {}
    for name in MEASURES:
        values = truth[name].to_numpy(np.float64)
        if np.isnan(values).any() or np.isnan(cause).any():
            continue
        together = float(np.mean((cause - cause.mean()) * (values - values.mean())))
        explained = together**2 / max(np.var(cause) * np.var(values), 1e-300)
        found[name] = together / float(np.var(cause)) if explained > _EXACT else 0.0
    return found


def against_truth(
    steps: Values, values: dict[str, Values], truth: pd.DataFrame, own: Values, programme: str, seed: int = 0
) -> dict[str, Any]:
    """By measure, the slope of generated tiles over donors beside the truth's.

    `values`: (donors, steps) by measure; `truth`: rows of the donors' tissue; `own`: the donors' value of `programme`,
    (donors,). Only steps that leave a donor within the values that the truth holds count: beyond, nobody was trained.
    Each has `slope` with its interval (`low`, `high`), `expected`, their `ratio` (None where 0 is expected), and
    `moved`: the slope in SDs of the measure for one SD of the programme, where 1 or −1 is all and 0 nothing, with its
    interval.
    """
    cause = truth[programme]
    at = own[:, None] + steps
    inside = (at >= cause.min() - 1e-9) & (at <= cause.max() + 1e-9)
    result: dict[str, Any] = {}
    for name, expected in expected_slopes(truth, programme).items():
        each = slopes(steps, values[name], inside)
        each = each[~np.isnan(each)]
        if len(each) < FEWEST_DONORS:
            continue
        slope, low, high = (float(value) for value in mean_with_interval(each, seed))
        unit = float(cause.std(ddof=0) / truth[name].std(ddof=0)) if truth[name].std(ddof=0) else float("nan")
        result[name] = {
            "slope": slope,
            "low": low,
            "high": high,
            "expected": expected,
            "ratio": slope / expected if expected else None,
            "moved": slope * unit,
            "moved_low": low * unit,
            "moved_high": high * unit,
            "donors": len(each),
        }
    return result
