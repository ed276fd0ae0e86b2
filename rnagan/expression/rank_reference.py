"""Normal scores of a profile's ranks, and what the training profiles say of genes that a profile lacks.

A score is Φ⁻¹((rank − ½) / m) with the average rank among the m genes of the profile (rankits, Bliss 1967). It
depends on the order of a profile's genes alone.
"""

import dataclasses
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from rnagan.expression.patterns import by_pattern

_EDGES: NDArray[np.float64] = ndtr(np.linspace(-4, 4, 65))  # shares of genes, finer towards both ends
_SNAP = 0.01  # of a rank: scores are stored as float32, and equal ones must come back as equal ranks
MOST_PROFILES = 2048  # that the reference is made of, the first in stored order, which is random


@dataclasses.dataclass(frozen=True)
class RankReference:
    """The training profiles as ranks. `levels` float32 (genes,): their sorted log expression, on average, ascending.

    `coverage` float32 (genes, edges): how much of a gene's ranks lies below each of a fixed list of shares of all
    genes. Each gene of a profile covers an interval of length 1 / genes, and tied ones share theirs evenly, so that all
    genes together cover every share evenly.
    """

    EDGES: ClassVar[int] = len(_EDGES)

    levels: NDArray[np.float32]
    coverage: NDArray[np.float32]

    def scores(self, values: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Normal scores (samples, genes known) of profiles that may hold NaN; `known`: which of the reference's genes
        the columns are. NaN stays.

        A whole profile is ranked among all its genes. Of one that lacks genes the rank goes to the quantile of the
        training reference's ranks of the same measured genes; with all genes that is the rank itself.
        """
        scores = np.full(values.shape, np.nan)
        columns = np.flatnonzero(known)
        for rows, measured in by_pattern(~np.isnan(values)):
            if measured.any():
                own = values[rows] if measured.all() else values[np.ix_(rows, measured)]
                ranks = self._of_all_genes(rankdata(own, axis=1), columns[measured])
                scores[np.ix_(rows, measured)] = ndtri((ranks - 0.5) / len(self.levels))
        return scores

    def _of_all_genes(self, ranks: NDArray[np.float64], genes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Ranks among all genes that training profiles have where these are the ranks among the chosen `genes`; as any
        average of tied ranks to a half, so that ties stay ties when they have been stored."""
        n = len(self.levels)
        if len(genes) == n:
            return ranks
        covered = np.concatenate([[0.0], self.coverage[genes].mean(axis=0, dtype=np.float64), [1.0]])
        share = np.interp((ranks - 0.5) / len(genes), covered, np.concatenate([[0.0], _EDGES, [1.0]]))
        return (np.round(2 * (share * n + 0.5)) / 2).clip(1, n)

    def logged(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log expression of normal scores, each at the reference's quantile of it; NaN stays."""
        ranks = ndtr(scores) * len(self.levels) + 0.5
        halves = np.round(2 * ranks) / 2
        ranks = np.where(np.abs(ranks - halves) < _SNAP, halves, ranks)
        return np.interp(ranks, np.arange(1, len(self.levels) + 1), self.levels)

    def scores_of_logged(self, logged: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inverse of `logged`; log expression beyond the reference's ends gets the score of that end."""
        ranks = np.interp(logged, self.levels, np.arange(1, len(self.levels) + 1))
        return ndtri((ranks - 0.5) / len(self.levels))

    @property
    def highest(self) -> float:
        """The highest score that a gene can have; the lowest is as far below 0."""
        return float(ndtri(1 - 0.5 / len(self.levels)))


class RankFit:
    """What a `RankReference` is made of, as it comes in blocks."""

    def __init__(self, genes: int) -> None:
        self._count, self._levels, self._coverage = 0, np.zeros(genes), np.zeros((genes, len(_EDGES)))

    def add(self, values: NDArray[np.floating], logged: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take in whole profiles (samples, genes) and their log expression; returns their normal scores."""
        genes = values.shape[1]
        ranks = rankdata(values, axis=1)
        seen = slice(max(0, MOST_PROFILES - self._count))
        self._count += len(ranks[seen])
        self._levels += np.sort(logged[seen], axis=1).sum(axis=0)
        below = rankdata(values[seen], "min", axis=1) - 1
        width = 2 * (ranks[seen] - below) - 1  # of a tie, in ranks
        for edge, share in enumerate(_EDGES):
            self._coverage[:, edge] += ((share * genes - below) / width).clip(0, 1).sum(axis=0)
        return ndtri((ranks - 0.5) / genes)

    def reference(self) -> RankReference:
        levels, coverage = self._levels / self._count, self._coverage / self._count
        return RankReference(levels.astype(np.float32), coverage.astype(np.float32))
