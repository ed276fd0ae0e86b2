"""Means and SDs of values that come in blocks."""

import numpy as np
from numpy.typing import NDArray


class Moments:
    """Mean and SD of each gene over profiles (samples, genes) that `add` takes one block after the other, float64.

    Chan, Golub & LeVeque 1983: means and squared deviations of parts, joined.
    """

    def __init__(self, genes: int) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(genes)
        self._squares: NDArray[np.float64] = np.zeros(genes)

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in a block, of one profile at least."""
        own, total = values.mean(axis=0), self.count + len(values)
        between = (own - self.mean) ** 2 * (self.count * len(values) / total)
        self._squares += ((values - own) ** 2).sum(axis=0) + between
        self.mean += (own - self.mean) * (len(values) / total)
        self.count = total

    @property
    def sd(self) -> NDArray[np.float64]:
        """Population SD of each gene, (genes,)."""
        return np.sqrt(self._squares / self.count)
