"""What a profile's missing genes are expected to be, given those it has."""

import dataclasses
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnagan.expression.patterns import by_pattern
from rnagan.expression.principal_components import PrincipalComponents, principal_components
from rnagan.io.weights import read_arrays, write_arrays
from rnagan.runtime import rng

_LADDER = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # numbers of components that are tried
_HIDDEN = 0.2  # share of genes hidden in each trial
_TRIALS = 3
_MOST_HELD_OUT = 256  # profiles that decide, at most


@dataclasses.dataclass(frozen=True)
class GeneImputer:
    """Probabilistic principal components of the training scores (Tipping & Bishop 1999): x ~ N(0, W Wᵀ + σ² I).

    `loadings` W (genes, components) float32, `noise` σ². The expectation of missing genes given the others shrinks
    towards the training mean as there is less to go by, so a profile without genes gets the mean.
    """

    loadings: NDArray[np.float32]
    noise: float

    @classmethod
    def fit(cls, z_train: NDArray[np.float32], z_held_out: NDArray[np.float32], seed: int = 0) -> Self:
        """Fit on a transform's scores (samples, genes). The number of components is the one that predicts hidden genes
        of held-out profiles best; without those, or with a single training profile, only the mean is predicted.
        """
        pca = principal_components(z_train, _LADDER[-1] + 1)
        genes = z_train.shape[1]
        choices = [k for k in _LADDER if k < pca.directions.shape[1]]
        held_out = z_held_out[:_MOST_HELD_OUT]
        if not choices or not len(held_out):
            return cls(np.zeros((genes, 0), np.float32), 1.0)
        hidden = rng.uniform(seed, "imputer trials", 0, _TRIALS, genes) < _HIDDEN
        imputers = [cls._of(pca, k) for k in choices]
        errors = [sum(imputer._error(held_out, mask) for mask in hidden) for imputer in imputers]
        return imputers[int(np.argmin(errors))]

    @classmethod
    def _of(cls, pca: PrincipalComponents, k: int) -> Self:
        noise = max(float(pca.variances[k:].sum()) / (len(pca.mean) - k), float(np.finfo(np.float32).eps))
        scale = np.sqrt(np.maximum(pca.variances[:k] - noise, 0))
        return cls((pca.directions[:, :k] * scale).astype(np.float32), noise)

    def fill(self, z: NDArray[np.float32], measured: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Scores (samples, genes) with every gene that isn't `measured` (same shape) at its expectation."""
        filled = np.where(measured, z, np.float32(0))
        for rows, known in by_pattern(measured):
            if known.all() or not self.loadings.shape[1]:
                continue
            filled[np.ix_(rows, ~known)] = self._expected(z[np.ix_(rows, known)], known)
        return filled

    def _expected(self, z_known: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        own = self.loadings[known].astype(np.float64)
        inner = own.T @ own + self.noise * np.eye(own.shape[1])
        return np.linalg.solve(inner, own.T @ z_known.T).T @ self.loadings[~known].T

    def _error(self, z: NDArray[np.float32], hidden: NDArray[np.bool_]) -> float:
        return float(np.square(self._expected(z[:, ~hidden], ~hidden) - z[:, hidden]).mean())

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        write_arrays(path, {"loadings": self.loadings, "noise": np.array([self.noise])})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        arrays = read_arrays(path, ("loadings", "noise"))
        if arrays["loadings"].ndim != 2 or arrays["noise"].size != 1:
            raise ValueError(f"{path} is no imputer: its arrays have other shapes; copy the model folder again.")
        return cls(arrays["loadings"], float(arrays["noise"].item()))
