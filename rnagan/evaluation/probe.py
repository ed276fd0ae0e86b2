"""A linear probe: how well RNA itself predicts a covariate, so what a model that generates from RNA could know."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnagan.evaluation.stats import FEWEST_DONORS, Interval, Values, as_dict, bootstrap_counts, interval
from rnagan.runtime import rng

_PENALTIES = np.logspace(-2, 5, 15)
_FOLDS = 5


def linear_probe(
    c: Values, values: NDArray, scored: NDArray[np.bool_], seed: int = 0, draws: int = 1999
) -> dict[str, Any] | None:
    """Predict a covariate `values` (donors,) from conditions `c` (donors, units) of one tissue, each donor by a model
    of the others, in FOLDS parts; figures are of the donors in `scored` (donors,).

    Numbers: ridge regression, `score` is R² against the mean of the donors learnt from, where `chance` is 0 and below 0
    is worse. Labels: logistic regression, all classes weighing alike, `score` is the mean share called right of each
    class (balanced accuracy), where `chance` is 1 / classes. Each with its 95% bootstrap interval over donors. None
    where there are too few donors, or of a class, to do so.
    """
    numeric = np.issubdtype(values.dtype, np.number)
    if numeric:
        if len(values) < 2 * _FOLDS or scored.sum() < FEWEST_DONORS:
            return None
        right, expected = _ridge(c, values.astype(np.float64), seed)
        truth, what, chance = values[scored].astype(np.float64), "R²", 0.0
        figures = np.column_stack([(truth - right[scored]) ** 2, (truth - expected[scored]) ** 2])
    else:
        names, codes = np.unique(values.astype(str), return_inverse=True)
        if len(names) < 2 or np.bincount(codes).min() < _FOLDS or len(set(codes[scored])) < len(names):
            return None
        hit = (_logistic(c, codes, seed) == codes)[scored]
        member = np.eye(len(names))[codes[scored]]
        what, chance = "balanced accuracy", 1 / len(names)
        figures = np.column_stack([member * hit[:, None], member])
    random = rng.generator(seed, "read out")
    weights = np.vstack([np.ones(len(figures)), bootstrap_counts(random, len(figures), draws)])
    scores = _score(weights @ figures, numeric)
    low, high = interval(scores[1:])
    return as_dict(score=Interval(float(scores[0]), float(low), float(high))) | {
        "what": what,
        "chance": chance,
        "donors": len(figures),
        "learnt_from": len(values),
    }


def _score(sums: Values, numeric: bool) -> Values:
    half = sums.shape[1] // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = sums[:, :half] / sums[:, half:]
    return 1 - ratio[:, 0] if numeric else ratio.mean(axis=1)


def _ridge(c: Values, y: Values, seed: int) -> tuple[Values, Values]:
    """Predictions, and the mean of those learnt from, of each donor, (donors,)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold

    predicted, mean = np.empty(len(y)), np.empty(len(y))
    for learn, left_out in KFold(_FOLDS, shuffle=True, random_state=seed).split(c):
        predicted[left_out] = RidgeCV(_PENALTIES).fit(c[learn], y[learn]).predict(c[left_out])
        mean[left_out] = y[learn].mean()
    return predicted, mean


def _logistic(c: Values, codes: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cross_val_predict(model, c, codes, cv=folds)
