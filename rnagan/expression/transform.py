"""From expression to what the β-VAE sees: logarithm and Z score of the training split (article: STAR Methods,
RNA-seq data preprocessing). Part of the VAE's checkpoint; every profile, ours or foreign, goes through `apply`.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from rnagan.expression.genes import clean_genes, positions
from rnagan.expression.units import UNITS
from rnagan.io.files import read_json, write_json
from rnagan.io.weights import read_arrays, write_arrays

_SOURCE = "The gene list of the profiles"  # in errors
_PER_MILLION = 1e6
_CONSTANT = 1e-7  # an SD below this share of the mean is rounding of float32 input


LOGARITHMS = ("log1p", "paper", "none")
_ARRAYS = ("mean", "sd", "constant")


class TransformRecord(TypedDict):
    """The transform.json of a β-VAE."""

    units: str
    log: str
    genes: list[str]


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
        return cls.fit_blocks([x_train], genes, units, log)

    @classmethod
    def fit_blocks(cls, blocks: Iterable[NDArray[np.floating]], genes: Sequence[str], units: str, log: str) -> Self:
        """As `fit`, of profiles that come in blocks of any number of samples, so that few are in memory at a time."""
        kind, clean = "none" if units == "log2" else log, clean_genes(genes, _SOURCE)
        count, mean, squares = 0, np.zeros(len(clean.ids)), np.zeros(len(clean.ids))
        for block in blocks:  # Chan, Golub & LeVeque 1983: means and squared deviations of parts, joined
            if len(block) == 0:
                continue
            logged = _logarithm(block[:, clean.kept], units, kind)
            own, total = logged.mean(axis=0), count + len(logged)
            squares += ((logged - own) ** 2).sum(axis=0) + (own - mean) ** 2 * (count * len(logged) / total)
            mean += (own - mean) * (len(logged) / total)
            count = total
        if count == 0:
            raise ValueError("There is no training profile to fit the expression transform on.")
        sd = np.sqrt(squares / count)
        constant = sd <= _CONSTANT * np.maximum(np.abs(mean), 1.0)
        return cls(tuple(clean.ids), units, kind, mean, np.where(constant, 1.0, sd), constant)

    @property
    def constant_genes(self) -> list[str]:
        """Genes that don't vary in the training split, and so say nothing."""
        return [self.genes[i] for i in np.flatnonzero(self.constant)]

    def apply(self, x: NDArray[np.floating], genes: Sequence[str], units: str) -> NDArray[np.float32]:
        """Z scores float32 (samples, the model's genes) of profiles with their own gene list, versions or not.

        A gene that `genes` lacks, or whose value is NaN in a profile, gets 0, which is its mean in the training split
        (article: genes missing in an external cohort are set to zero). Surplus genes are left out. Counts become counts
        per million of what the model's genes hold together, so that surplus genes don't matter. Raises `ValueError` on
        other units than those fitted, where no gene is known, and on values that can't be.
        """
        if units != self.units:
            raise ValueError(
                f"The profiles are in {units} and the model was fitted on {self.units}; convert them, "
                f"or train a model on {units}."
            )
        place = self.columns(genes)
        known = place >= 0
        values = np.asarray(x)[:, place[known]]
        absent = np.isnan(values)
        if not np.isfinite(values[~absent]).all() or (self.units != "log2" and (values[~absent] < 0).any()):
            raise ValueError("The profiles hold values that are infinite or negative; leave those out.")
        logged = _logarithm(values, self.units, self.log)
        z = np.zeros((len(x), len(self.genes)), dtype=np.float32)
        silent = absent | self.constant[known]
        z[:, known] = np.where(silent, 0.0, (logged - self.mean[known]) / self.sd[known])
        return z

    def invert(self, z: NDArray[np.floating]) -> NDArray[np.float32]:
        """Profiles float32 (samples, the model's genes) in `units` from Z scores, none negative unless in log2.

        Counts come as counts per million, which `apply` takes for counts like any others. With log `paper` a zero
        and a one have the same logarithm, 0, and both come as one.
        """
        logged = np.asarray(z, dtype=np.float64) * np.where(self.constant, 0.0, self.sd) + self.mean
        if self.log == "none":
            return logged.astype(np.float32)
        return (np.expm1(logged).clip(min=0) if self.log == "log1p" else np.exp(logged)).astype(np.float32)

    def measured(self, x: NDArray[np.floating], genes: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the model's genes each profile has, in `genes` and not as NaN, (samples, the model's genes)."""
        place = self.columns(genes)
        known = place >= 0
        measured = np.zeros((len(x), len(self.genes)), bool)
        measured[:, known] = ~np.isnan(np.asarray(x)[:, place[known]])
        return measured

    def columns(self, genes: Sequence[str]) -> NDArray[np.intp]:
        """Where each of the model's genes stands in `genes`, however they are spelled; -1 where it is missing.

        Raises `ValueError` where all are.
        """
        clean = clean_genes(genes, _SOURCE)
        place = np.append(clean.kept, -1)[positions(clean.ids, self.genes)]
        if (place < 0).all():
            raise ValueError(
                f"The profiles hold none of the model's {len(self.genes):,} genes: theirs start with {genes[0]}, "
                f"the model's with {self.genes[0]}; use the same kind of gene id."
            )
        return place

    def save(self, folder: Path) -> None:
        """Write transform.safetensors and transform.json into a folder."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        write_arrays(Path(folder) / "transform.safetensors", arrays)
        write_json(Path(folder) / "transform.json", {"units": self.units, "log": self.log, "genes": self.genes})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        path, arrays_path = Path(folder) / "transform.json", Path(folder) / "transform.safetensors"
        found = read_json(path, TransformRecord)
        arrays = read_arrays(arrays_path, _ARRAYS)
        if found["log"] not in LOGARITHMS or found["units"] not in UNITS or not found["genes"]:
            raise ValueError(
                f"{path} states no genes, or units or a logarithm that aren't known; copy the model folder again."
            )
        if any(arrays[name].shape != (len(found["genes"]),) for name in _ARRAYS) or arrays["constant"].dtype != bool:
            raise ValueError(f"{arrays_path} isn't of the genes in {path.name}; copy the model folder again.")
        return cls(tuple(found["genes"]), found["units"], found["log"], *(arrays[name] for name in _ARRAYS))


def _logarithm(x: NDArray[np.floating], units: str, log: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(x, dtype=np.float64)
    if units == "counts":
        values = values * (_PER_MILLION / np.maximum(np.nansum(values, axis=1, keepdims=True), 1.0))
    if log == "log1p":
        return np.log1p(values)
    if log == "paper":
        return np.log(values, out=np.zeros_like(values), where=values > 0)
    return values
