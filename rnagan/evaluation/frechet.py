"""Fréchet distance between two sets of tiles in the space of a feature extractor (Heusel et al. 2017, equation 6).

With FID's Inception it would be FID; it is named after its extractor and its count of tiles instead, because both
decide its value: with fewer tiles than features (1,280) the covariance has no full rank, and the distance of equal
distributions is far above 0 and falls as tiles are added. Compare only figures of one name.
"""

import dataclasses
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnagan.evaluation.features import FeatureExtractor

PIECE = 8192  # features that are widened to float64 at a time


@dataclasses.dataclass(frozen=True)
class FeatureStatistics:
    """Mean (d,) and scatter (d, d) of `count` features, float64: all that the distance needs. `a + b` is of both."""

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]  # sum of the outer products of what differs from the mean

    @classmethod
    def of(cls, features: NDArray) -> Self:
        """Of features (n, d), n at least 1, in pieces of PIECE: they may be mapped from a file."""
        whole: FeatureStatistics | None = None
        for first in range(0, len(features), PIECE):
            piece = np.asarray(features[first : first + PIECE], np.float64)
            mean = piece.mean(axis=0)
            centred = piece - mean
            own = cls(len(piece), mean, centred.T @ centred)
            whole = own if whole is None else whole + own
        assert whole is not None, "statistics of no features"
        return cls(whole.count, whole.mean, whole.scatter)

    def __add__(self, other: "FeatureStatistics") -> "FeatureStatistics":
        """Chan, Golub & LeVeque 1979, equations 1.5: without the cancellation that sums of squares would suffer."""
        count, step = self.count + other.count, other.mean - self.mean
        between = np.outer(step, step) * (self.count * other.count / count)
        return FeatureStatistics(
            count, self.mean + step * (other.count / count), self.scatter + other.scatter + between
        )

    def without(self, part: "FeatureStatistics") -> "FeatureStatistics":
        """Of the features that are left when a part of them is taken away: what `+` undoes."""
        count = self.count - part.count
        mean = (self.count * self.mean - part.count * part.mean) / count
        step = part.mean - mean
        between = np.outer(step, step) * (count * part.count / self.count)
        return FeatureStatistics(count, mean, self.scatter - part.scatter - between)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased, (d, d); needs two features at least."""
        if self.count < 2:
            raise ValueError(f"A covariance needs at least 2 tiles, not {self.count}.")
        return self.scatter / (self.count - 1)


def frechet_distance(one: FeatureStatistics, other: FeatureStatistics) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), by torch-fidelity's formula, in float64."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    told = [{"mu": each.mean, "sigma": each.covariance} for each in (one, other)]
    return fid_statistics_to_metric(*told, verbose=False)[KEY_METRIC_FID]


def frechet_name(extractor: FeatureExtractor, count: int, part: str = "all") -> str:
    """Name of the distance between `count` painted and as many real tiles of a part of the data, a tissue say."""
    return f"frechet_{extractor.name}/{part}_{count}"
