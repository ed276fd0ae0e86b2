"""Scores of generated against real tiles: Fréchet distance, KID, precision and recall, Inception Score.

`device`: where the linear algebra is done. A GPU does it in float64; on a CPU it is torch-fidelity's own.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from rnagan.evaluation import device_algebra
from rnagan.evaluation.features import INCEPTION, FeatureExtractor
from rnagan.runtime import rng

PIECE = 8192  # features that are widened to float64 at a time
JACKKNIFE_GROUPS = 20  # of donors: a distance takes seconds
HALVINGS = 4
CLASS_SCORE_PARTS = 10  # of its tiles, over which its SD is taken (Salimans et al. 2016)
KID_SUBSET, KID_SUBSETS, NEIGHBOURHOOD = 1000, 100, 3  # Bińkowski et al. 2018; Kynkäänniemi et al. 2019
CONFIDENCE = 0.95
FEW_TILES = 10_000  # the least that its authors advise (Heusel et al. 2017, the readme of their code)
_PRC_BATCH = 1000  # rows of distances at a time: memory, not the value
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class FeatureStatistics:
    """Mean (d,) and scatter (d, d) of `count` features, float64: all that the distance needs. `a + b` is of both."""

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]  # sum of the outer products of what differs from the mean

    @classmethod
    def of(cls, features: NDArray, device: torch.device = CPU) -> Self:
        """Of features (n, d), n at least 1, in pieces of PIECE: they may be mapped from a file."""
        whole: FeatureStatistics | None = None
        for first in range(0, len(features), PIECE):
            piece = features[first : first + PIECE]
            own = cls(len(piece), *_moments(piece, device))
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


def _moments(features: NDArray, device: torch.device) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `device_algebra.moments`."""
    if device.type == "cuda":
        return device_algebra.moments(features, device)
    wide = np.asarray(features, np.float64)
    mean = wide.mean(axis=0)
    centred = wide - mean
    return mean, centred.T @ centred


def frechet_distance(one: FeatureStatistics, other: FeatureStatistics, device: torch.device = CPU) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), by torch-fidelity's formula, in float64."""
    if device.type == "cuda":
        step, traces = one.mean - other.mean, np.trace(one.covariance) + np.trace(other.covariance)
        root = device_algebra.trace_of_root(one.covariance, other.covariance, device)
        return float(step @ step + traces - 2 * root)
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    moments = [{"mu": each.mean, "sigma": each.covariance} for each in (one, other)]
    return fid_statistics_to_metric(*moments, verbose=False)[KEY_METRIC_FID]


def frechet_name(extractor: FeatureExtractor, count: int, part: str = "all") -> str:
    """Name of the distance between `count` generated and as many real tiles of a part of the data, a tissue say."""
    return f"frechet_{extractor.name}/{part}_{count}"


class TileFeatures(NamedTuple):
    """`features` (n, width) of tiles and the `donors` (n,) that they are of, as numbers."""

    features: NDArray[np.float32]
    donors: NDArray[np.int64]

    def of(self, rows: NDArray) -> "TileFeatures":
        """Those that a mask (n,) or row numbers choose."""
        return TileFeatures(self.features[rows], self.donors[rows])


class Floor(NamedTuple):
    """Fréchet distances between halves that share no donor, means over HALVINGS: real and real tiles (`floor`), and
    generated tiles of one half's profiles and real ones of the other, as many (`matched`): what compares with it.
    `tiles`: of a half, on average."""

    floor: float
    matched: float
    tiles: int
    halvings: int


def score_name(metric: str, extractor: str, generated: int, real: int) -> str:
    """`fid_60k` for (frechet, inception_v3, 60000, 60000); `frechet_efficientnet_lite0_500_vs_400_real`."""
    own = {"frechet": "fid", "kernel": "kid", "class_score": "inception_score"}
    stem = own[metric] if extractor == INCEPTION and metric in own else f"{metric}_{extractor}"
    return f"{stem}_{_count(generated)}" + ("" if real == generated else f"_vs_{_count(real)}_real")


def extractor_of(name: str) -> str | None:
    """The extractor in a name that `score_name` or `frechet_name` made, behind a part of the data or before one; None
    in the name of anything else."""
    if re.search(r"(^|/)(fid|kid|inception_score)_\d", name):
        return INCEPTION
    own = r"(?:^|/)(?:frechet|kernel|precision|recall|class_score)_(.+?)(?:/.*)?_\d+k?(?:_vs_\d+k?_real)?(?: \(.*\))?$"
    found = re.search(own, name)
    return found.group(1) if found else None


def of_few_tiles(count: int, kid: str = "rnagan compute-fid") -> str:
    """A sentence for the reader of a Fréchet distance of fewer than FEW_TILES tiles, else ''; `kid`: where KID is.

    KID has no such bias (Bińkowski et al. 2018, section 4).
    """
    if count >= FEW_TILES:
        return ""
    return (
        f"A Fréchet distance of fewer than {FEW_TILES:,} tiles (here {count:,}) is too large, the more so the fewer "
        f"they are: go by KID ({kid}), whose mean doesn't move with their count."
    )


def few_tiles(names: Iterable[str]) -> str:
    """`of_few_tiles` of the smallest count in the names of Fréchet distances among scores of these names, else ''."""
    names = list(names)
    counts = [count for name in names for count in _counts_of_frechet(name)]
    kid = [name for name in names if re.search(r"(^|/)(kid|kernel)_", name)][:1]
    return of_few_tiles(min(counts, default=FEW_TILES), *kid)


def _counts_of_frechet(name: str) -> list[int]:
    """The counts of tiles in the name of a Fréchet distance, perhaps behind a part of the data; none in others."""
    found = re.search(r"(?:^|/)(?:fid|frechet_.+?)(?:/.*)?_(\d+k?)(?:_vs_(\d+k?)_real)?(?: \(.*\))?$", name)
    counts = [] if found is None else [count for count in found.groups() if count]
    return [1000 * int(count[:-1]) if count.endswith("k") else int(count) for count in counts]


def _count(tiles: int) -> str:
    return f"{tiles // 1000}k" if tiles >= 1000 and tiles % 1000 == 0 else str(tiles)


def frechet_with_interval(
    generated: TileFeatures, real: TileFeatures, seed: int = 0, device: torch.device = CPU
) -> tuple[float, float | None, float | None]:
    """The distance, and its interval by a jackknife over donors, None where there are fewer than three.

    Donors are dealt into at most JACKKNIFE_GROUPS groups (the delete-a-group jackknife, Kott 2001); one group after
    another is left out, its real and its generated tiles. The interval is the value ± t · standard error.
    """
    whole = FeatureStatistics.of(generated.features, device), FeatureStatistics.of(real.features, device)
    value = frechet_distance(*whole, device)
    donors = np.unique(np.concatenate([generated.donors, real.donors]))
    count = min(JACKKNIFE_GROUPS, len(donors))
    if count < 3:
        return value, None, None
    group = np.empty(donors.max() + 1, np.int64)
    group[donors[rng.generator(seed, "scores/jackknife").permutation(len(donors))]] = np.arange(len(donors)) % count
    without = []
    for k in range(count):
        sides = []
        for tiles, all_of_them in zip((generated, real), whole, strict=True):
            own = group[tiles.donors] == k
            left = all_of_them.count - own.sum()
            if left < 2:
                return value, None, None
            part = FeatureStatistics.of(tiles.features[own], device) if own.any() else None
            sides.append(all_of_them if part is None else all_of_them.without(part))
        without.append(frechet_distance(sides[0], sides[1], device))
    error = np.sqrt((count - 1) / count * np.sum((np.array(without) - np.mean(without)) ** 2))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * error)
    return value, value - reach, value + reach


def floor(
    generated: TileFeatures, real: TileFeatures, tissue_of_donor: NDArray, seed: int = 0, device: torch.device = CPU
) -> Floor | None:
    """What real tiles of other donors reach. `tissue_of_donor`: by a donor's number; halves take as many of each.

    Of generated tiles a half takes as many as it has real ones. None where a half would have fewer than two tiles.
    """
    floors, matched, sizes = [], [], []
    for halving in range(HALVINGS):
        random = rng.generator(seed, "scores/halves", halving)
        half = _halves(np.unique(real.donors), tissue_of_donor, random)
        sides = [real.of(half[real.donors] == k) for k in (0, 1)]
        if min(len(side.donors) for side in sides) < 2:
            return None
        of_real = [FeatureStatistics.of(side.features, device) for side in sides]
        floors.append(frechet_distance(of_real[0], of_real[1], device))
        for k, side in enumerate(sides):
            rows = np.flatnonzero(half[generated.donors] == k)
            rows = np.sort(random.permutation(rows)[: len(side.donors)])
            if len(rows) < 2:
                return None
            of_generated = FeatureStatistics.of(generated.features[rows], device)
            matched.append(frechet_distance(of_generated, of_real[1 - k], device))
            sizes.append(len(side.donors))
    return Floor(float(np.mean(floors)), float(np.mean(matched)), round(float(np.mean(sizes))), HALVINGS)


def _halves(donors: NDArray[np.int64], tissue_of_donor: NDArray, random: np.random.Generator) -> NDArray[np.int64]:
    """0 or 1 by a donor's number: half of each tissue's donors."""
    half = np.zeros(len(tissue_of_donor), np.int64)
    for tissue in np.unique(tissue_of_donor[donors]):
        own = random.permutation(donors[tissue_of_donor[donors] == tissue])
        first = (len(own) + int(random.integers(2))) // 2  # an odd one goes to either
        half[own[:first]] = 1
    return half


def kernel_distance(generated: NDArray, real: NDArray) -> tuple[float, float]:
    """KID with its SD over subsets, of at most KID_SUBSET tiles (fewer where there aren't as many)."""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    size = min(KID_SUBSET, len(generated), len(real))
    scores = kid_features_to_metric(
        *map(_tensor, (generated, real)), kid_subsets=KID_SUBSETS, kid_subset_size=size, verbose=False
    )
    return scores[KEY_METRIC_KID_MEAN], scores[KEY_METRIC_KID_STD]


def precision_recall(generated: NDArray, real: NDArray, device: torch.device = CPU) -> tuple[float, float]:
    """Share of generated tiles among real ones, and of real tiles among generated ones, by the 3 nearest neighbours."""
    if device.type == "cuda":
        return device_algebra.precision_recall(generated, real, NEIGHBOURHOOD, _PRC_BATCH, device)
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    scores = prc_features_to_metric(
        *map(_tensor, (generated, real)),
        prc_neighborhood=NEIGHBOURHOOD,
        prc_batch_size=_PRC_BATCH,
        save_cpu_ram=True,
        verbose=False,
    )
    return scores[KEY_METRIC_PRECISION], scores[KEY_METRIC_RECALL]


def class_score(logits: NDArray[np.float32]) -> tuple[float, float]:
    """The Inception Score of a classifier's logits (n, classes), with its SD over CLASS_SCORE_PARTS parts."""
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    scores = isc_features_to_metric(_tensor(logits), splits=CLASS_SCORE_PARTS, shuffle=True, rng_seed=2020)
    return scores[KEY_METRIC_ISC_MEAN], scores[KEY_METRIC_ISC_STD]


def _tensor(values: NDArray) -> torch.Tensor:
    return torch.from_numpy(np.array(values))  # a copy: mapped files can't be written to
