"""Principal components of profiles, of which there are fewer than genes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PrincipalComponents(NamedTuple):
    """`mean` (genes,) and `directions` (genes, n), of length 1 and orthogonal; `variances` along all components of the
    profiles, largest first, of which the first n have a direction. All float64."""

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    variances: NDArray[np.float64]


def principal_components(x: NDArray[np.float32], most: int) -> PrincipalComponents:
    """Of profiles (samples, genes), at most `most` directions and none without variance, by their Gram matrix."""
    mean = x.mean(axis=0)
    centred = (x - mean).astype(np.float64)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = min(most, int((values > values[0] * 1e-10).sum()) if values[0] > 0 else 0)
    directions = centred.T @ vectors[:, :kept] / np.sqrt(values[:kept])
    return PrincipalComponents(mean.astype(np.float64), directions, values / len(x))
