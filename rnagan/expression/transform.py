"""From expression to what the β-VAE sees. Part of the VAE's checkpoint; every profile, ours or foreign, goes through
`apply`.

`zscore` is the article's (STAR Methods, RNA-seq data preprocessing): logarithm and Z score of the training split.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from rnagan.config.vae import TRANSFORMS
from rnagan.expression.genes import clean_genes, positions
from rnagan.expression.moments import Moments
from rnagan.expression.patterns import by_pattern
from rnagan.expression.rank_reference import RankFit, RankReference
from rnagan.expression.units import CENTRED, UNITS
from rnagan.io.files import read_json, write_json
from rnagan.io.weights import read_arrays, write_arrays

_SOURCE = "The gene list of the profiles"  # in errors
_PER_MILLION = 1e6
_LIBRARY = 1e4  # what lognorm's profiles add up to
_CONSTANT = 1e-7  # an SD below this share of the mean is rounding of float32 input


LOGARITHMS = ("log1p", "paper", "none")
LOGGED = ("log2", CENTRED)  # units that are never logged again, and may be negative
_ARRAYS = ("mean", "sd", "constant")
_MORE = {  # arrays of each kind beside those, which are all that models had before there were kinds
    "zscore": (),
    "zscore_floor": ("spread",),
    "normal_scores": ("spread", "levels", "coverage"),
    "lognorm": ("spread", "shares"),
}


class TransformRecord(TypedDict):
    """The transform.json of a β-VAE. `kind`: one of TRANSFORMS, zscore where it isn't there."""

    units: str
    log: str
    genes: list[str]
    kind: NotRequired[str]


@dataclasses.dataclass(frozen=True)
class ExpressionTransform:
    """Genes in the model's order, and how their expression becomes scores: (level − `mean`) / `sd`, float64 (genes,).

    `kind` says what a level, its mean and what it is divided by are:

    - zscore: log expression, with mean and SD of the training split.
    - zscore_floor: the same, divided by the median of all genes' SDs at least, so that a gene that hardly varies in
      training isn't blown up.
    - normal_scores: the normal score of a gene's rank in its profile (`RankReference`), less its training mean. Only
      the order of a profile's genes counts: any units will do, and total and absolute levels are lost.
    - lognorm: ln(1 + x) of a profile that adds up to 10⁴, less its training mean. For sparse counts, whose ranks are
      mostly ties. Profiles that were centred by group (units `centred`) are that already.

    `log`: log1p is ln(1 + x); paper is ln(x) with zeros kept at zero; none is for logarithms already. `constant`
    marks genes that don't vary in the training split: their score is always 0. `spread` is the SD of the scores over
    the training split, 1 of a Z score and where a gene is constant. `shares` of lognorm: of all expression in training;
    None of centred profiles, which have no totals.
    """

    genes: tuple[str, ...]
    units: str
    log: str
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    constant: NDArray[np.bool_]
    kind: str
    spread: NDArray[np.float64]
    reference: RankReference | None = None
    shares: NDArray[np.float64] | None = None

    @classmethod
    def fit(
        cls, x_train: NDArray[np.floating], genes: Sequence[str], units: str, log: str, kind: str = "zscore"
    ) -> Self:
        """Fit on training profiles (samples, genes) in `units`. Data in log2 are never logged again, whatever `log`.

        The model's genes are `genes` without versions and PAR twins.
        """
        return cls.fit_blocks([x_train], genes, units, log, kind)

    @classmethod
    def fit_blocks(
        cls,
        blocks: Iterable[NDArray[np.floating]],
        genes: Sequence[str],
        units: str,
        log: str,
        kind: str = "zscore",
    ) -> Self:
        """As `fit`, of profiles that come in blocks of any number of samples, so that few are in memory at a time."""
        if kind == "lognorm" and units == "log2":
            raise ValueError("transform lognorm needs totals, which log2 data don't have; give counts or TPM.")
        if kind == "normal_scores" and units == CENTRED:
            raise ValueError(
                "The profiles are centred by group, which ranks would undo; choose transform lognorm (preset spots)."
            )
        clean = clean_genes(genes, _SOURCE)
        log = "none" if units in LOGGED else "log1p" if kind == "lognorm" else log
        n = len(clean.ids)
        logged_of, scores_of, shares_of, ranks = Moments(n), Moments(n), Moments(n), RankFit(n)
        for block in blocks:
            if len(block) == 0:
                continue
            values = block[:, clean.kept]
            if kind == "lognorm" and units != CENTRED:
                shares_of.add(_shares(values))
                logged = log_of_shares(values)
            else:
                logged = _logarithm(values, units, log)
            logged_of.add(logged)
            if kind == "normal_scores":
                scores_of.add(ranks.add(values, logged))
        if logged_of.count == 0:
            raise ValueError("There is no training profile to fit the expression transform on.")
        mean, sd = logged_of.mean, logged_of.sd
        constant = sd <= _CONSTANT * np.maximum(np.abs(mean), 1.0)
        about = tuple(clean.ids), units, log
        if kind == "normal_scores":
            mean, sd = scores_of.mean, scores_of.sd
            constant = constant | (sd <= _CONSTANT)
        spread = sd = np.where(constant, 1.0, sd)
        if kind == "zscore":
            return cls(*about, mean, sd, constant, kind, np.ones(n))
        if kind == "zscore_floor":
            sd = sd if constant.all() else np.where(constant, 1.0, np.maximum(sd, np.median(sd[~constant])))
            return cls(*about, mean, sd, constant, kind, spread / sd)
        if kind == "normal_scores":
            return cls(*about, mean, np.ones(n), constant, kind, spread, reference=ranks.reference())
        shares = None if units == CENTRED else shares_of.mean
        return cls(*about, mean, np.ones(n), constant, kind, spread, shares=shares)

    @property
    def constant_genes(self) -> list[str]:
        """Genes that don't vary in the training split, and so say nothing."""
        return [self.genes[i] for i in np.flatnonzero(self.constant)]

    @property
    def accepts(self) -> tuple[str, ...]:
        """Units that profiles may come in: those of the training split, or all where order alone counts."""
        return tuple(unit for unit in UNITS if unit != CENTRED) if self.reference is not None else (self.units,)

    def apply(self, x: NDArray[np.floating], genes: Sequence[str], units: str) -> NDArray[np.float32]:
        """Scores float32 (samples, the model's genes) of profiles with their own gene list, versions or not.

        A gene that `genes` lacks, or whose value is NaN in a profile, gets 0, which is its mean in the training split
        (article: genes missing in an external cohort are set to zero). Surplus genes are left out. Counts become counts
        per million of what the model's genes hold together, so that surplus genes don't matter; lognorm's become 10⁴
        times the share of all expression that the genes of the profile have in training. Each profile's scores depend
        on that profile alone. Raises `ValueError` on units that aren't in `accepts`, where no gene is known, and on
        values that can't be.
        """
        if units not in self.accepts:
            how = "make them with rnagan build-expression --centre-by" if self.units == CENTRED else "convert them"
            raise ValueError(
                f"The profiles are in {units} and the model was fitted on {self.units}; {how}, "
                f"or train a model on {units}."
            )
        place = self.columns(genes)
        known = place >= 0
        values = np.asarray(x)[:, place[known]]
        absent = np.isnan(values)
        if not np.isfinite(values[~absent]).all() or (units not in LOGGED and (values[~absent] < 0).any()):
            raise ValueError("The profiles hold values that are infinite or negative; leave those out.")
        if self.reference is not None:
            levels = self.reference.scores(values, known)
        elif self.shares is not None:
            levels = _library_normalised(values, self.shares[known])
        else:
            levels = _logarithm(values, self.units, self.log)
        z = np.zeros((len(x), len(self.genes)), dtype=np.float32)
        silent = absent | self.constant[known]
        z[:, known] = np.where(silent, 0.0, (levels - self.mean[known]) / self.sd[known])
        return z

    def logged(self, z: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log expression (samples, the model's genes) of scores; of normal scores at the quantiles of the reference."""
        levels = np.asarray(z, dtype=np.float64) * np.where(self.constant, 0.0, self.sd) + self.mean
        return levels if self.reference is None else self.reference.logged(levels)

    def plus_log(
        self, z: NDArray[np.float32], columns: NDArray[np.intp], by: float | NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Scores (samples, columns) of the genes at `columns`, which vary, after their log expression has risen by
        `by`: all alike, or each by its own (columns,)."""
        mean, sd = self.mean[columns], self.sd[columns]
        if self.reference is None:
            return z + np.asarray(by / sd, np.float32)
        logged = self.reference.logged(z.astype(np.float64) + mean)
        return np.where(by == 0, z, self.reference.scores_of_logged(logged + by) - mean).astype(np.float32)

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and the highest score that each gene can have, (genes,) each: of no expression, of the last rank;
        infinite where there is no bound."""
        if self.reference is not None:
            return -self.reference.highest - self.mean, self.reference.highest - self.mean
        lowest = -self.mean / self.sd if self.log == "log1p" else np.full(len(self.genes), -np.inf)
        return lowest, np.full(len(self.genes), np.inf)

    def invert(self, z: NDArray[np.floating]) -> NDArray[np.float32]:
        """Profiles float32 (samples, the model's genes) in `units` from scores, none negative unless in log2.

        Counts come as counts per million (per 10⁴ of lognorm), which `apply` takes for counts like any others. With log
        `paper` a zero and a one have the same logarithm, 0, and both come as one. Profiles of normal scores have the
        levels of the training reference in their own order.
        """
        logged = self.logged(z)
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
        more: dict[str, NDArray[Any] | None] = {"spread": self.spread, "shares": self.shares}
        if self.reference is not None:
            more |= {"levels": self.reference.levels, "coverage": self.reference.coverage}
        arrays |= {name: more[name] for name in _more_arrays(self.kind, self.units)}
        write_arrays(Path(folder) / "transform.safetensors", arrays)
        record = {"units": self.units, "log": self.log, "kind": self.kind, "genes": self.genes}
        write_json(Path(folder) / "transform.json", record)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        path, arrays_path = Path(folder) / "transform.json", Path(folder) / "transform.safetensors"
        found = read_json(path, TransformRecord)
        kind = found.get("kind", "zscore")
        known = found["log"] in LOGARITHMS and found["units"] in UNITS and kind in TRANSFORMS
        if not known or not found["genes"]:
            raise ValueError(
                f"{path} states no genes, or units, a logarithm or a transform that aren't known; copy the model "
                "folder again."
            )
        n = len(found["genes"])
        names = (*_ARRAYS, *_more_arrays(kind, found["units"]))
        shapes = dict.fromkeys(names, (n,)) | {"coverage": (n, RankReference.EDGES)}
        arrays = read_arrays(arrays_path, names)
        if any(array.shape != shapes[name] for name, array in arrays.items()) or arrays["constant"].dtype != bool:
            raise ValueError(f"{arrays_path} isn't of the genes in {path.name}; copy the model folder again.")
        return cls(
            tuple(found["genes"]),
            found["units"],
            found["log"],
            arrays["mean"],
            arrays["sd"],
            arrays["constant"],
            kind,
            arrays.get("spread", np.ones(n)),
            RankReference(arrays["levels"], arrays["coverage"]) if "levels" in arrays else None,
            arrays.get("shares"),
        )


def log_of_shares(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """ln(1 + x) of profiles (samples, genes) that add up to 10⁴ each; NaN stays."""
    return np.log1p(_LIBRARY * _shares(values))


def _more_arrays(kind: str, units: str) -> tuple[str, ...]:
    return tuple(name for name in _MORE[kind] if name != "shares" or units != CENTRED)


def _logarithm(x: NDArray[np.floating], units: str, log: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(x, dtype=np.float64)
    if units == "counts":
        values = values * (_PER_MILLION / np.maximum(np.nansum(values, axis=1, keepdims=True), 1.0))
    if log == "log1p":
        return np.log1p(values)
    if log == "paper":
        return np.log(values, out=np.zeros_like(values), where=values > 0)
    return values


def _shares(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """What of its total each gene of a profile has, (samples, genes); NaN stays."""
    x: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    total = np.nansum(x, axis=1, keepdims=True)
    return x / np.where(total > 0, total, 1.0)


def _library_normalised(values: NDArray[np.floating], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(1 + x) of profiles (samples, genes) that add up to 10⁴ times what `shares` (genes,) their genes have of all
    expression in training."""
    total = np.empty((len(values), 1))
    for rows, measured in by_pattern(~np.isnan(values)):
        total[rows] = _LIBRARY * shares[measured].sum()
    return np.log1p(total * _shares(values))
