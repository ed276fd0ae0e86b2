"""The cohort table: which slide belongs to which profile, donor, tissue, split and site (DESIGN.md, "Contracts").

Donors are dealt to the splits here, and checked against the splits that a table states.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rnagan.cohort.leakage import PEOPLE, refuse_leakage
from rnagan.cohort.people import may_name_people, people
from rnagan.cohort.slide_ids import check_shard_name
from rnagan.io.claim import Claim
from rnagan.io.codes import rises
from rnagan.io.tables import first_few, need_columns, read_table
from rnagan.runtime import rng

SPLITS = ("train", "validation", "test")
LEFT_OUT = "left_out"  # the split of those whom no training sees, such as a centre's (`leave_out`)
FRACTIONS = (0.6, 0.2, 0.2)  # of the donors, in each of them
COLUMNS = ("sample", "donor", "tissue", "split", "slide", "site")
LEAN_ROWS = 1 << 22
SPLIT_BY = ("donor", "sample", "section", "block")
OPTIMISTIC = (
    "Split by sample, as the article did: samples of one donor are in several splits, so all scores are optimistic; "
    "only a split by donor says what holds for people who were never seen."
)
# What scores of a split say, where it isn't by donor.
CAVEATS = {
    "sample": OPTIMISTIC,
    "section": "Split by section: sections of one donor are in several splits, so scores say what holds for further "
    "sections of these donors, and not for other people.",
    "block": "Split by block: parts of one section are in several splits, so scores say what holds elsewhere on these "
    "sections, and not for other sections or people.",
}
_HELD_OUT = {
    "sample": "samples of the same donors",
    "section": "sections of the same donors",
    "block": "blocks of the same sections",
}
# Columns of which no value may be in two splits; of a split by donor also the person that a sample's id names.
_APART = {
    "donor": ("slide", "image_donor", "donor"),
    "sample": ("slide", "image_donor", "sample"),
    "section": ("slide", "sample"),
    "block": ("sample",),
}


def read_cohort(path: Path | str) -> pd.DataFrame:
    """Read and check a cohort table; all columns are strings, an empty `slide` marks a profile without a slide.

    In a table of LEAN_ROWS rows or more they are Arrow's, and categories where values come again.
    """
    cohort = read_table(path, lean_from=LEAN_ROWS)
    need_columns(list(cohort), COLUMNS, path)
    check_cohort(cohort, str(path))
    return cohort


def check_cohort(cohort: pd.DataFrame, name: str = "The cohort table") -> None:
    """Refuse rows without sample or donor, unknown splits, repeated pairs, and whatever lies in two splits.

    A donor, and a person that ids of samples name, may be in two splits only where every row says `sample`, `section`
    or `block` in the column `split_by`; a slide only where it says `block`.
    """
    apart = _APART[split_by(cohort, name)]
    for column in ("sample", "donor"):
        if (cohort[column] == "").any():
            raise ValueError(f"{name} has rows without a {column} (line {int((cohort[column] == '').argmax()) + 2}).")
    unknown = sorted(set(cohort["split"].unique()) - {*SPLITS, LEFT_OUT})
    if unknown:
        raise ValueError(f"{name} has split {unknown[0]!r}; it must be one of {', '.join(SPLITS)} or {LEFT_OUT}.")
    once = rises(cohort["sample"])  # as `build_cohort` writes them: then nothing need be looked up
    repeated = cohort.iloc[:0] if once else cohort[cohort.duplicated(["sample", "slide"])]
    if len(repeated):
        row = repeated.iloc[0]
        slide = row["slide"] or "(none)"
        raise ValueError(f"{name} has sample {row['sample']} with slide {slide} twice; keep one row.")
    for column in apart:
        if column in cohort and not (once and column == "sample"):
            refuse_leakage(cohort, column, name)
    if "donor" in apart:
        named = cohort.loc[may_name_people(cohort["sample"]), ["sample", "split"]]
        refuse_leakage(named.assign(person=people(named["sample"])), "person", name)
        if "image_donor" in cohort:
            both = pd.concat([cohort[[column, "split"]].set_axis(["person", "split"], axis=1) for column in PEOPLE])
            refuse_leakage(both, "person", name)
    for slide in cohort["slide"].unique():
        if slide:
            check_shard_name(slide)


def split_by(cohort: pd.DataFrame, name: str = "The cohort table") -> str:
    """`donor`, or what of SPLIT_BY the column `split_by` says in every row: how much was held out."""
    if "split_by" not in cohort:
        return "donor"
    said = sorted(set(cohort["split_by"].unique()))
    if len(said) != 1 or said[0] not in SPLIT_BY:
        raise ValueError(
            f"{name} has {first_few(map(repr, said))} in the column split_by; it must be {' or '.join(SPLIT_BY)}, in "
            "every row."
        )
    return said[0]


def claim_of(by: str) -> Claim | None:
    """What scores claim where splits are by `by` of SPLIT_BY; None of donors, which need no word."""
    return Claim(by, f"held out: {_HELD_OUT[by]}", CAVEATS[by]) if by in CAVEATS else None


def describe(cohort: pd.DataFrame) -> str:
    """Profiles, slides and donors, and donors (or what it is split by) of each split, in one line."""
    by = split_by(cohort)
    unit = {"section": "slide", "block": "sample"}.get(by, by)
    units = cohort.drop_duplicates(unit)["split"].value_counts()
    slides, donors = cohort.loc[cohort["slide"] != "", "slide"].nunique(), cohort["donor"].nunique()
    there = [*SPLITS, *([LEFT_OUT] if LEFT_OUT in units else [])]
    in_splits = ", ".join(f"{units.get(split, 0):,} {split}" for split in there)
    what = in_splits if by == "donor" else f"{'sections' if by == 'section' else 'samples'} by split: {in_splits}"
    return f"{cohort['sample'].nunique():,} profiles, {slides:,} slides, {donors:,} donors ({what})."


def assign_splits(
    donor_tissues: Mapping[str, set[str]],
    seed: int = 0,
    existing: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Split of each donor: train, validation or test, in about FRACTIONS of all donors, of each tissue's donors, and
    of the donors with each set of tissues.

    Donors in `existing` keep their split; the others are dealt one by one, in an order drawn from `seed`, to the split
    that lacks most (iterative stratification, Sechidis et al. 2011, with the set of tissues as one more label).
    """
    existing = existing or {}
    splits = {donor: existing[donor] for donor in sorted(donor_tissues) if donor in existing}
    labels = {donor: ["", *sorted(tissues), "+".join(sorted(tissues))] for donor, tissues in donor_tissues.items()}
    number = {label: n for n, label in enumerate(sorted({label for of_donor in labels.values() for label in of_donor}))}
    rows = {donor: sorted({number[label] for label in of_donor}) for donor, of_donor in labels.items()}
    lacking = np.zeros((len(number), len(SPLITS)))
    for of_donor in rows.values():
        lacking[of_donor] += FRACTIONS
    for donor, split in splits.items():
        if split == LEFT_OUT:
            continue
        lacking[rows[donor], SPLITS.index(split)] -= 1
    new = sorted(set(donor_tissues) - set(splits))
    for n in rng.generator(seed, "splits").permutation(len(new)):
        donor = new[n]
        choice = int(lacking[rows[donor]].sum(axis=0).round(9).argmax())
        lacking[rows[donor], choice] -= 1
        splits[donor] = SPLITS[choice]
    return splits
