"""How much of the difference between donors' means is of the donors, and not of which tiles were measured."""

import numpy as np
from numpy.typing import NDArray


def reliability(values: NDArray[np.float64], donors: NDArray) -> float:
    """Share of the variance of donors' means that lies between donors: 1 − (variance of a mean) / (variance of means).

    `values` (tiles,) and the donor of each; donors with one tile alone don't tell how tiles vary. No correlation with
    these means can be expected above its square root (Spearman 1904). 0 or less: the means differ as chance makes them;
    NaN: it can't be told.
    """
    own = [values[donors == donor] for donor in np.unique(donors)]
    several = [x for x in own if len(x) > 1]
    means = np.array([x.mean() for x in own])
    if len(means) < 2 or not several or not np.var(means):
        return float("nan")
    within = sum(((x - x.mean()) ** 2).sum() for x in several) / sum(len(x) - 1 for x in several)
    return float(1 - within * np.mean([1 / len(x) for x in own]) / np.var(means, ddof=1))
