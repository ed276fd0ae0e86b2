"""The cohort table: which slide belongs to which profile, donor, tissue, split and site (DESIGN.md, "Contracts")."""

from pathlib import Path

import pandas as pd

from rnagan.cohort.names import check_shard_name
from rnagan.tables import first_few, need_columns, read_table

SPLITS = ("train", "validation", "test")
COLUMNS = ("sample", "donor", "tissue", "split", "slide", "site")


def read_cohort(path: Path | str) -> pd.DataFrame:
    """Read and check a cohort table; all columns are strings, an empty `slide` marks a profile without a slide."""
    cohort = read_table(path)
    need_columns(list(cohort), COLUMNS, path)
    check_cohort(cohort, str(path))
    return cohort


def check_cohort(cohort: pd.DataFrame, name: str = "The cohort table") -> None:
    """Refuse rows without sample or donor, unknown splits, repeated pairs, and whatever lies in two splits."""
    for column in ("sample", "donor"):
        if (cohort[column] == "").any():
            raise ValueError(f"{name} has rows without a {column} (line {int((cohort[column] == '').argmax()) + 2}).")
    unknown = sorted(set(cohort["split"]) - set(SPLITS))
    if unknown:
        raise ValueError(f"{name} has split {unknown[0]!r}; it must be one of {', '.join(SPLITS)}.")
    repeated = cohort[cohort.duplicated(["sample", "slide"])]
    if len(repeated):
        row = repeated.iloc[0]
        slide = row["slide"] or "(none)"
        raise ValueError(f"{name} has sample {row['sample']} with slide {slide} twice; keep one row.")
    for column in ("donor", "slide", "image_donor"):
        if column in cohort:
            splits = cohort[cohort[column] != ""].groupby(column)["split"].nunique()
            if (splits > 1).any():
                raise ValueError(
                    f"{name} has a {column} in two splits ({first_few(splits.index[splits > 1])}); "
                    "training would see what it is tested on."
                )
    for slide in cohort["slide"]:
        if slide:
            check_shard_name(slide)


def describe(cohort: pd.DataFrame) -> str:
    """Profiles, slides and donors, and donors of each split, in one line."""
    donors = cohort.drop_duplicates("donor")["split"].value_counts()
    slides = cohort.loc[cohort["slide"] != "", "slide"].nunique()
    in_splits = ", ".join(f"{donors.get(split, 0):,} {split}" for split in SPLITS)
    return f"{cohort['sample'].nunique():,} profiles, {slides:,} slides, {donors.sum():,} donors ({in_splits})."
