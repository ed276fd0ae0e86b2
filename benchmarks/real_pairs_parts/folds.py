"""Folds of her2st by section, and the condition of its spots."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.evaluation.spatial_baselines import centred, ridge
from rnagan.expression.h5ad_writer import write_anndata
from rnagan.io.cells import safe_table
from rnagan.io.files import write_text

CONSECUTIVE = ("C2", "C3", "C4", "C5", "C6")  # as they were cut, of patient C
OTHER = "B4"  # the one section of patient B
FIRST = "C4"  # the fold that runs without --all
KEY, COMPONENTS, SEEN_IN = "X_spots", 30, 30  # in obsm; the most that a condition has; spots that must have a gene
UNITS, NEARLY = (2, 4, 6, 8, 10, 12, 16, 20, 24, 30), 0.99  # how many of them a condition may have
PER_SPOT = 1e4  # to which counts of a spot are brought


@dataclasses.dataclass(frozen=True)
class Fold:
    """`test`: the section held out; `validation`: another, None where the other patient is held out; `train`."""

    test: str
    validation: str | None
    train: tuple[str, ...]

    @property
    def sections(self) -> tuple[str, ...]:
        return (self.test, *self.train) if self.validation is None else (self.test, self.validation, *self.train)

    def split(self, section: str) -> str:
        return {self.test: "test", self.validation: "validation"}.get(section, "train")


def _folds() -> Iterator[Fold]:
    """Of each section of patient C, and of patient B's."""
    for k, test in enumerate(CONSECUTIVE):
        validation = CONSECUTIVE[(k + 1) % len(CONSECUTIVE)]
        yield Fold(test, validation, tuple(name for name in CONSECUTIVE if name not in (test, validation)))
    yield Fold(OTHER, None, CONSECUTIVE)


FOLDS = {fold.test: fold for fold in _folds()}  # by the section held out


def spot_condition(counts: NDArray[np.float64], sections: NDArray, train: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Principal components (spots, COMPONENTS) of ln(1 + counts per 10⁴), around each section's own mean, of genes that
    SEEN_IN training spots have, fitted on these; training scales them later. `counts` (spots, genes)."""
    seen = (counts[train] > 0).sum(axis=0) >= SEEN_IN
    logged = np.log1p(PER_SPOT * counts[:, seen] / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    around = centred(logged, sections)
    directions = np.linalg.svd(around[train], full_matrices=False)[2][:COMPONENTS]
    return (around @ directions.T).astype(np.float32)


def fewest_units(c: NDArray[np.float64], measures: NDArray[np.float64], sections: NDArray) -> int:
    """The fewest components of `c` (spots, COMPONENTS) of training spots with which a ridge regression foretells the
    `measures` (spots, k) of left-out training sections as well as with any number, to NEARLY of the mean r.

    More than it needs costs a generator images: it must find out of each whether it means anything.
    """
    found = {}
    for units in UNITS:
        r = []
        for section in np.unique(sections):
            out = sections == section
            foretold = ridge(c[~out, :units], measures[~out], sections[~out], c[out, :units])
            r += [float(np.corrcoef(*pair)[0, 1]) for pair in zip(foretold.T, measures[out].T, strict=True)]
        found[units] = float(np.mean(r))
    return min(units for units, r in found.items() if r >= NEARLY * max(found.values()))


def write_fold(fold: Fold, cohort: Path, expression: Path, folder: Path) -> tuple[Path, Path]:
    """The cohort table and the expression file of a fold, of those of all sections."""
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    table = table[table["slide"].isin(fold.sections)].reset_index(drop=True)
    table["split"] = table["slide"].map(fold.split)
    if fold.validation is None:  # the patient is held out
        table = table.drop(columns="split_by")
    data = anndata.read_h5ad(expression)[table["sample"].to_numpy()].copy()
    data.obs["split"] = table["split"].to_numpy()
    data.uns["split_by"] = "donor" if fold.validation is None else "section"
    counts, train = np.asarray(data.X, np.float64), (table["split"] == "train").to_numpy()
    data.obsm[KEY] = spot_condition(counts, table["slide"].to_numpy(str), train)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "cohort.csv", safe_table(table).to_csv(index=False))
    write_anndata(folder / "expression.h5ad", data)
    return folder / "cohort.csv", folder / "expression.h5ad"
