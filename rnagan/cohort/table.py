"""The cohort table: which slide belongs to which profile, donor, tissue, split and site (DESIGN.md, "Contracts")."""

from pathlib import Path

import pandas as pd

from rnagan.cohort.slide_ids import check_shard_name
from rnagan.io.tables import first_few, need_columns, read_table

SPLITS = ("train", "validation", "test")
COLUMNS = ("sample", "donor", "tissue", "split", "slide", "site")
SPLIT_BY = ("donor", "sample")
OPTIMISTIC = (
    "Split by sample, as the article did: samples of one donor are in several splits, so all scores are optimistic; "
    "people who were never seen are told only by a split by donor."
)


def read_cohort(path: Path | str) -> pd.DataFrame:
    """Read and check a cohort table; all columns are strings, an empty `slide` marks a profile without a slide."""
    cohort = read_table(path)
    need_columns(list(cohort), COLUMNS, path)
    check_cohort(cohort, str(path))
    return cohort


def check_cohort(cohort: pd.DataFrame, name: str = "The cohort table") -> None:
    """Refuse rows without sample or donor, unknown splits, repeated pairs, and whatever lies in two splits.

    A donor may be in two splits only where every row says `sample` in the column `split_by`.
    """
    apart = ["slide", "image_donor", "sample" if split_by(cohort, name) == "sample" else "donor"]
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
    for column in apart:
        if column in cohort:
            refuse_leakage(cohort, column, name)
    for slide in cohort["slide"]:
        if slide:
            check_shard_name(slide)


def split_by(cohort: pd.DataFrame, name: str = "The cohort table") -> str:
    """`donor`, or `sample` where the column `split_by` says so in every row."""
    if "split_by" not in cohort:
        return "donor"
    said = sorted(set(cohort["split_by"]))
    if len(said) != 1 or said[0] not in SPLIT_BY:
        raise ValueError(
            f"{name} has {first_few(map(repr, said))} in the column split_by; it must be donor or sample, in every row."
        )
    return said[0]


def refuse_leakage(table: pd.DataFrame, column: str, name: str) -> None:
    """Refuse a table in which a donor, slide or other value of `column` is in two splits; `name` is the file's."""
    splits = table[table[column] != ""].groupby(column)["split"].nunique()
    if (splits > 1).any():
        raise ValueError(
            f"{name} has a {column} in two splits ({first_few(splits.index[splits > 1])}); "
            "training would see what it is tested on."
        )


def describe(cohort: pd.DataFrame) -> str:
    """Profiles, slides and donors, and donors (or samples, if split by those) of each split, in one line."""
    unit = split_by(cohort)
    units = cohort.drop_duplicates(unit)["split"].value_counts()
    slides, donors = cohort.loc[cohort["slide"] != "", "slide"].nunique(), cohort["donor"].nunique()
    in_splits = ", ".join(f"{units.get(split, 0):,} {split}" for split in SPLITS)
    what = f"samples by split: {in_splits}" if unit == "sample" else in_splits
    return f"{cohort['sample'].nunique():,} profiles, {slides:,} slides, {donors:,} donors ({what})."
