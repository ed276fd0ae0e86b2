"""Calibration of the condition: a gain for each of its components, by which slopes come nearer to 1.

A generator often follows the profile too weakly (or, guided, too strongly): r is high, and the slope isn't 1. How much
a measure of its tiles moves with each component is estimated on its own tiles; the gains then are those with which it
would fit the donors' real tiles best. They are fitted on validation donors, and tried on others.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.stats import FEWEST_DONORS, by_donor
from rnagan.evaluation.test_set import EvaluationSet
from rnagan.evaluation.tile_measurements import TileMeasurer

PRIOR_SD = 0.5  # of gains around 1: with few donors they stay near it
RIDGE = 1.0  # of the generator's response, in donors' worth of a component's variance
BOUNDS = 0.25, 4.0  # of a gain
CONTROL = "site_stain"  # which the profile shouldn't make


def calibrate(held_out: EvaluationSet, model: RNAGAN, measurer: TileMeasurer, n: int, seed: int) -> NDArray[np.float64]:
    """Gains (units,) of a model's condition, from `n` real and `n` generated tiles of each validation profile.

    Raises `ValueError` where there is nothing to fit them on, or tiles can't be measured.
    """
    held_out.need_mpp()
    known = held_out.pictured[held_out.pictured["tissue"].isin(model.tissues)]
    samples = pd.Index(known.loc[known["split"] == "validation", "sample"].unique(), name="sample")
    check_calibration(held_out.split, held_out.own_people)
    about = held_out.about
    real = measurer.measure(held_out.real_of(samples, n), about["tissue"]).measures
    generated = measurer.measure(held_out.generated_of(model, samples, n, seed), about["tissue"]).measures
    conditions = pd.DataFrame(model.conditions(held_out.latents(model, samples)), samples)
    parts = []
    names = [name for name in MEASURES if name != CONTROL]
    for _, rows in about.loc[samples].groupby("tissue"):
        if rows["donor"].nunique() >= FEWEST_DONORS:
            tables = (conditions, generated[names], real[names])
            parts.append(tuple(by_donor(table, rows).to_numpy(np.float64) for table in tables))
    if not parts:
        raise ValueError(f"--calibrate needs {FEWEST_DONORS} validation donors of a tissue with tiles and a profile.")
    return fit_gains(parts)


def check_calibration(split: str, own_people: bool) -> None:
    """Raise `ValueError` where gains can't be fitted on validation donors' own tiles and tried on `split`."""
    if not own_people or split == "validation":
        raise ValueError("--calibrate needs validation donors' own tiles, and another split to be tried on.")


def fit_gains(parts: list[tuple[NDArray[np.float64], ...]]) -> NDArray[np.float64]:
    """Gains (units,) from each tissue's conditions (donors, units) and measures of generated and of real tiles, each
    (donors, measures).

    Around the tissue's mean and in SDs of the real tiles, a generator's measures are C B with B by ridge regression of
    them on its conditions C. The gains g minimise the squared error of C diag(g) B to the real tiles' measures over all
    donors, measures and tissues, plus (g − 1)² / PRIOR_SD². Noise of the real tiles is independent of C, so it doesn't
    shrink the gains. Measures that don't vary are left out.
    """
    rows, targets = [], []
    for conditions, generated, real in parts:
        c, made, own = (values - values.mean(axis=0) for values in (conditions, generated, real))
        sd = own.std(axis=0)
        varies = sd > 1e-9 * np.abs(real).max(axis=0).clip(min=1e-300)
        made, own = made[:, varies] / sd[varies], own[:, varies] / sd[varies]
        gram = c.T @ c
        response = np.linalg.solve(gram + RIDGE * np.eye(len(gram)), c.T @ made)  # (units, measures)
        rows.append((c[:, None, :] * response.T[None]).reshape(-1, c.shape[1]))
        targets.append(own.ravel())
    matrix, target = np.concatenate(rows), np.concatenate(targets)
    gram = matrix.T @ matrix
    weight = 1 / PRIOR_SD**2  # targets have a variance of 1, what is left of them one of 1 at most
    gains = np.linalg.solve(gram + weight * np.eye(len(gram)), matrix.T @ target + weight)
    return gains.clip(*BOUNDS)
