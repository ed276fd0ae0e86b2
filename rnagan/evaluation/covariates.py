"""What is known of donors beside their RNA: centre, ischaemic time, age, sex, as columns of the cohort table."""

import dataclasses
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rnagan.cohort.readers.subjects import UNKNOWN
from rnagan.evaluation.stats import FEWEST_DONORS
from rnagan.io.tables import first_few, need_columns
from rnagan.reports.labels import label

DEFAULT = ("site", "ischaemic_min", "age", "sex")
_CATEGORIES = ("site", "sex")  # also where they are written as numbers
_REST = "other"
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*[-–]\s*(\d+(?:\.\d+)?)")  # GTEx's ages: 60-69


@dataclasses.dataclass(frozen=True)
class OfTissue:
    """Covariates of one tissue's donors. `values`: by donor, float64 or text, NaN or None where unknown, of those that
    can be analysed; `joint`: those known for most donors, which models take together; `notes`: what can't be analysed,
    and why."""

    values: pd.DataFrame
    joint: list[str]
    notes: list[str]


def read_covariates(
    cohort: pd.DataFrame, path: Path, names: Sequence[str] = (), categories: Collection[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Covariates of the cohort table by sample, float64 or text, NaN or None where unknown, and notes.

    `names`: which columns; without any, those of DEFAULT that there are, and a note of those that aren't. Columns of
    numbers, or of ranges like 60-69 (their middle), are numbers, others and those in `categories` labels. Raises
    `ValueError` where a column that was asked for isn't there.
    """
    notes: list[str] = []
    if names:
        need_columns(list(cohort), names, path)
    else:
        missing = [name for name in DEFAULT if name not in cohort]
        notes = [
            f"{path} has no column {name}, so nothing can be said of {label(name)} (rnagan build-cohort --subjects "
            "adds it)."
            for name in missing
        ]
        names = [name for name in DEFAULT if name in cohort]
    strange = [name for name in categories if name not in names]
    if strange:
        raise ValueError(
            f"--categories names {first_few(strange)}, which is no covariate; those are {first_few(names, 9)}."
        )
    rows = cohort.drop_duplicates("sample").set_index("sample")
    read = {name: _parse(rows[name], name in _CATEGORIES or name in categories) for name in names}
    return pd.DataFrame(read, index=rows.index), notes


def of_donors(covariates: pd.DataFrame, rows: pd.DataFrame, tissue: str) -> OfTissue:
    """The covariates of the donors of `rows` (index sample; column donor), which are of one tissue.

    Numbers are means over a donor's samples, labels those of the first. Labels of fewer than FEWEST_DONORS donors count
    together as one. What is unknown, or alike, in too many donors is left out by name.
    """
    own = covariates.reindex(rows.index).groupby(rows["donor"].to_numpy())
    kept, joint, notes = {}, [], []
    donors = own.ngroups
    for name in covariates:
        numeric = pd.api.types.is_numeric_dtype(covariates[name])
        values = own[name].mean() if numeric else own[name].first()
        known = values.dropna()
        if len(known) < FEWEST_DONORS:
            notes.append(
                f"{tissue}: {label(name)} is known for {len(known)} of {donors} donors, too few to say anything."
            )
            continue
        if not numeric:
            values, note = _together(values, tissue, name)
            notes += note
        if values.dropna().nunique() < 2:
            notes.append(
                f"{tissue}: all {len(known)} donors have the same {label(name)} ({known.iloc[0]}), so nothing can be "
                "said of it."
            )
            continue
        kept[name] = values
        if 2 * len(known) > donors:
            joint.append(name)
        else:
            notes.append(
                f"{tissue}: {label(name)} is known for {len(known)} of {donors} donors, so it is tested alone and not "
                "regressed out."
            )
    return OfTissue(pd.DataFrame(kept, index=pd.Index(sorted(own.groups), name="donor")), joint, notes)


def _parse(text: pd.Series, category: bool) -> pd.Series:
    known = text.where(~text.str.casefold().isin(UNKNOWN))
    if not category:
        middle = known.map(lambda value: _middle(value) if isinstance(value, str) else value)
        numbers = pd.to_numeric(middle, errors="coerce").replace([np.inf, -np.inf], np.nan)
        if numbers.notna().sum() == known.notna().sum():
            return numbers.astype(np.float64)
    return known.astype(object).where(known.notna(), None)


def _middle(value: str) -> str | float:
    ends = _RANGE.fullmatch(value.strip())
    return value if ends is None else (float(ends[1]) + float(ends[2])) / 2


def _together(values: pd.Series, tissue: str, name: str) -> tuple[pd.Series, list[str]]:
    counts = values.value_counts()
    rare = sorted(counts.index[counts < FEWEST_DONORS])
    if not rare:
        return values, []
    note = (
        f"{tissue}: {len(rare)} kinds of {label(name)} with fewer than {FEWEST_DONORS} donors ({first_few(rare)}) "
        f"count together as {_REST}."
    )
    return values.where(~values.isin(rare), _REST), [note]
