"""From expression to what the β-VAE sees: logarithm and Z score of the training split (article: STAR Methods,
RNA-seq data preprocessing). Part of the VAE's checkpoint; every profile, ours or foreign, goes through `apply`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnagan.expression.genes import clean_genes, positions
from rnagan.files import read_json, write_json
from rnagan.weights import read_arrays, write_arrays

_SOURCE = "The gene list of the profiles"  # in errors
_PER_MILLION = 1e6
_CONSTANT = 1e-7  # an SD below this share of the mean is rounding of float32 input


@dataclasses.dataclass(frozen=True)
class ExpressionTransform:
    """Genes in the model's order, with mean and SD (float64) of their logarithm over the training split.

    `log`: log1p is ln(1 + x); paper is ln(x) with zeros kept at zero; none is for data in log2 already.
    `constant` marks genes that don't vary in the training split: their Z score is always 0.
    """

    genes: tuple[str, ...]
    units: str
    log: str
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    constant: NDArray[np.bool_]

    @classmethod
    def fit(cls, x_train: NDArray[np.floating], genes: Sequence[str], units: str, log: str) -> Self:
        """Fit on training profiles (samples, genes) in `units`. Data in log2 are never logged again, whatever `log`.

        The model's genes are `genes` without versions and PAR twins.
        """
        if len(x_train) == 0:
            raise ValueError("There is no training profile to fit the expression transform on.")
        kind, clean = "none" if units == "log2" else log, clean_genes(genes, _SOURCE)
        logged = _logarithm(x_train[:, clean.kept], units, kind)
        mean, sd = logged.mean(axis=0), logged.std(axis=0)
        constant = sd <= _CONSTANT * np.maximum(np.abs(mean), 1.0)
        return cls(tuple(clean.ids), units, kind, mean, np.where(constant, 1.0, sd), constant)

    def apply(self, x: NDArray[np.floating], genes: Sequence[str], units: str) -> NDArray[np.float32]:
        """Z scores float32 (samples, the model's genes) of profiles with their own gene list, versions or not.

        A gene that `genes` lacks gets 0, which is its mean in the training split (article: genes missing in an
        external cohort are set to zero). Surplus genes are left out. Counts become counts per million of what the
        model's genes hold together, so that surplus genes don't matter. Raises `ValueError` on other units than
        those fitted, and where no gene is known.
        """
        if units != self.units:
            raise ValueError(
                f"The profiles are in {units} and the model was fitted on {self.units}; convert them, "
                f"or train a model on {units}."
            )
        place = self._columns(genes)
        known = place >= 0
        if not known.any():
            raise ValueError(
                f"The profiles hold none of the model's {len(self.genes):,} genes: theirs start with {genes[0]}, "
                f"the model's with {self.genes[0]}; use the same kind of gene id."
            )
        z = np.zeros((len(x), len(self.genes)), dtype=np.float32)
        logged = _logarithm(np.asarray(x)[:, place[known]], self.units, self.log)
        z[:, known] = np.where(self.constant[known], 0.0, (logged - self.mean[known]) / self.sd[known])
        return z

    def missing_share(self, genes: Sequence[str]) -> float:
        """Share of the model's genes that a gene list lacks, 0 to 1."""
        return float(np.mean(self._columns(genes) < 0))

    def _columns(self, genes: Sequence[str]) -> NDArray[np.intp]:
        """Where each of the model's genes stands in `genes`, however they are spelled; -1 where it is missing."""
        clean = clean_genes(genes, _SOURCE)
        return np.append(clean.kept, -1)[positions(clean.ids, self.genes)]

    def save(self, folder: Path) -> None:
        """Write transform.safetensors and transform.json into a folder."""
        arrays = {"mean": self.mean, "sd": self.sd, "constant": self.constant}
        write_arrays(Path(folder) / "transform.safetensors", arrays)
        write_json(Path(folder) / "transform.json", {"units": self.units, "log": self.log, "genes": self.genes})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        told = read_json(Path(folder) / "transform.json")
        arrays = read_arrays(Path(folder) / "transform.safetensors")
        return cls(tuple(told["genes"]), told["units"], told["log"], arrays["mean"], arrays["sd"], arrays["constant"])


def _logarithm(x: NDArray[np.floating], units: str, log: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(x, dtype=np.float64)
    if units == "counts":
        values = values * (_PER_MILLION / np.maximum(values.sum(axis=1, keepdims=True), 1.0))
    if log == "log1p":
        return np.log1p(values)
    if log == "paper":
        return np.log(values, out=np.zeros_like(values), where=values > 0)
    return values
