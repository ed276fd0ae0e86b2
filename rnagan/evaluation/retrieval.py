"""Is the right donor found among the others? What was read from tiles, ranked against every donor's condition.

Donors of one tissue are compared with one another, and of one centre where it is known: tissues and centres differ in
ways that a claim about RNA must not live on.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnagan.evaluation.stats import Values, bootstrap, interval, p_value, permutations
from rnagan.runtime import rng

FEWEST_TO_FIT = 8  # validation donors of a tissue
FEWEST_CANDIDATES = 3  # in a tissue or centre: among two, chance finds the right one half the time
_PENALTIES = np.logspace(-1, 4, 11)


class ReadingModel(NamedTuple):
    """How readings follow from conditions within a tissue: read = mean + slope · (c − c_mean) + noise.

    A unit that can't be read has a slope near 0, so it hardly changes who is found.
    """

    c_mean: Values  # (units,)
    read_mean: Values  # (units,)
    slope: Values  # (units, units): reading, unit
    whitening: Values  # (units, units): makes the noise of readings round


def fit_reading(c: NDArray, read: NDArray) -> ReadingModel:
    """From donors (donors, units) of one tissue whom the network wasn't trained on: their conditions and readings.

    Ridge regression whose penalty is chosen by leaving one out, and the residuals' covariance, shrunk (Ledoit & Wolf
    2004), since donors may be few.
    """
    from sklearn.covariance import ledoit_wolf
    from sklearn.linear_model import RidgeCV

    c, read = np.asarray(c, np.float64), np.asarray(read, np.float64)
    c_mean, read_mean = c.mean(axis=0), read.mean(axis=0)
    slope = RidgeCV(_PENALTIES, fit_intercept=False).fit(c - c_mean, read - read_mean).coef_.reshape(-1, c.shape[1])
    covariance, _ = ledoit_wolf(read - read_mean - (c - c_mean) @ slope.T, assume_centered=True)
    covariance += 1e-9 * (1e-9 + np.trace(covariance)) * np.eye(len(covariance))
    return ReadingModel(c_mean, read_mean, slope, np.linalg.inv(np.linalg.cholesky(covariance)).T)


def distances(model: ReadingModel, read: NDArray, c: NDArray) -> Values:
    """Squared Mahalanobis distance of readings (queries, units) to what donors of conditions (candidates, units) would
    give, (queries, candidates): −2 log likelihood, but for a constant."""
    at = (read - model.read_mean) @ model.whitening
    expected = (c - model.c_mean) @ model.slope.T @ model.whitening
    return np.square(at[:, None] - expected).sum(axis=2)


def places(distance: Values, own: NDArray[np.intp], groups: NDArray | None = None) -> Values:
    """The place of every candidate for every query, (queries, candidates): 0 nearest … 1 farthest, ties halfway.

    Only candidates of the group of the query's own one, `own` (queries,), compete; others are NaN, and so is a row
    whose group has fewer than FEWEST_CANDIDATES.
    """
    groups = np.zeros(distance.shape[1], np.intp) if groups is None else np.asarray(groups)
    found = np.full(distance.shape, np.nan)
    for row, right in enumerate(own):
        rivals = np.flatnonzero(groups == groups[right])
        if len(rivals) >= FEWEST_CANDIDATES:
            near = np.sort(distance[row, rivals])
            before, upto = (np.searchsorted(near, distance[row, rivals], side) for side in ("left", "right"))
            found[row, rivals] = (before + upto - 1) / 2 / (len(rivals) - 1)
    return found


def retrieval(
    distance: Values, own: NDArray[np.intp], groups: NDArray | None = None, seed: int = 0, draws: int = 4999
) -> dict[str, Any] | None:
    """How well each query finds its own candidate; None where nobody has FEWEST_CANDIDATES to be found among.

    `rank`: median place of the right one (`places`: 0.5 is chance), `top1`, `top5`: share of queries that have it first
    or among the first five; each with the 95% bootstrap interval over queries (`_low`, `_high`), and top1 and top5 with
    what chance gives. `p`: share of assignments of queries to one another's candidates, within groups, whose median
    place is as low. `donors`: queries; `candidates`: mean number that they are found among.
    """
    everyone = places(distance, own, groups)
    kept = ~np.isnan(everyone[np.arange(len(own)), own])
    if not kept.any():
        return None
    everyone, own = everyone[kept], own[kept]
    rivals = (~np.isnan(everyone)).sum(axis=1)
    place = everyone[np.arange(len(own)), own]
    before = place * (rivals - 1)
    scores = {"rank": place, "top1": (before <= 0).astype(float), "top5": (before <= 4).astype(float)}
    random = rng.generator(seed, "retrieval")
    chosen = bootstrap(random, len(own), draws)
    result: dict[str, Any] = {"donors": len(own), "candidates": float(rivals.mean())}
    for name, values in scores.items():
        middle = np.median if name == "rank" else np.mean
        low, high = interval(middle(values[chosen], axis=1))
        result |= {name: float(middle(values)), f"{name}_low": float(low), f"{name}_high": float(high)}
    result |= {f"chance{k}": float(np.minimum(k / rivals, 1).mean()) for k in (1, 5)}
    strata = None if groups is None else np.asarray(groups)[own]
    shuffled = own[permutations(random, strata, draws, len(own))]
    null = np.median(everyone[np.arange(len(own)), shuffled], axis=1)
    result["p"] = p_value(null <= result["rank"] + 1e-12)
    return result | {"places": place.tolist()}
