"""Guards against leakage: nobody is in two splits, and nobody who was trained on is evaluated.

A model names the donors that it has seen by digests, not by their names: it may be given away.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from rnagan.io.codes import in_several
from rnagan.io.files import sha256_of
from rnagan.io.tables import first_few

PEOPLE = ("donor", "image_donor")  # columns of a cohort table that name whose a profile is, and an image of another's


def everyone(cohort: pd.DataFrame, rows: "pd.Series | slice" = slice(None)) -> list[str]:
    """Everybody whom some rows of a cohort table have to do with, each once: donors of profiles, and of images that
    were paired with another's profile."""
    names = (cohort.loc[rows, column].unique() for column in PEOPLE if column in cohort)
    return [name for name in dict.fromkeys(itertools.chain.from_iterable(names)) if name]


def donor_digest(donor: str) -> str:
    """What a model says of a donor instead of the name: 16 hex digits."""
    return sha256_of(donor)[:16]


def seen_donors(donors: Iterable[str], digests: Iterable[str]) -> list[str]:
    """Those of the donors that a model's digests name, each once."""
    known = set(digests)
    return [donor for donor in dict.fromkeys(donors) if donor_digest(donor) in known]


def are_of_seen(cohort: pd.DataFrame, digests: Iterable[str]) -> pd.Series:
    """Whether each row of a cohort table has to do with anybody whom a model's digests name, (rows,)."""
    seen = seen_donors(everyone(cohort), digests)
    return cohort[cohort.columns.intersection(PEOPLE)].isin(seen).any(axis=1)


def refuse_seen(donors: Iterable[str], digests: Iterable[str], split: str, model: str, instead: str) -> None:
    """Raise `ValueError` where donors of a held-out split were trained on. `model`: how to call it; `instead`: what
    to give."""
    if seen := seen_donors(donors, digests):
        raise ValueError(
            f"{len(seen)} donors of split {split} ({first_few(seen)}) were in the training split of {model}; give "
            f"{instead}, or one that extends it."
        )


def refuse_leakage(table: pd.DataFrame, column: str, name: str) -> None:
    """Refuse a table in which a donor, slide or other value of `column` is in two splits; `name` is the file's."""
    if several := [value for value in in_several(table, column, "split") if value != ""]:
        raise ValueError(
            f"{name} has a {column} in two splits ({first_few(several)}); training would see what it is tested on."
        )


def check_same_splits(cohort: pd.DataFrame, profiles: pd.DataFrame, cohort_path: Path, expression_path: Path) -> None:
    """Refuse an expression file made with another split than the cohort table's: held-out donors may be in training.

    `profiles`: its `obs`, by sample, with a column `split`.
    """
    both = cohort.drop_duplicates("sample").set_index("sample")["split"].reindex(profiles.index).dropna()
    moved = both.index[both != profiles.loc[both.index, "split"]]
    if len(moved):
        raise ValueError(
            f"{len(moved)} samples ({moved[0]} …) are in one split in {cohort_path} and in another in "
            f"{expression_path}; build the expression file again from this cohort table, and train the VAE on it."
        )
