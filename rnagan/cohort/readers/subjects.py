"""Who the donors are: age, sex and time of ischaemia, beside the profiles.

RNA and tissue both depend on them: rnagan confounder-report asks what a model learnt of them. Recognised
beside our own columns: GTEx's SubjectPhenotypesDS.txt (SUBJID, AGE "60-69", SEX 1 or 2, DTHHRDY) and the GDC's clinical
tables (clinical.tsv; column names with and without the entity before the dot).
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rnagan.io.tables import first_few, need_columns, read_table

COVARIATES = ("age", "sex", "ischaemic_min")  # columns of the cohort table, where they are known; minutes
_COLUMNS = {
    "donor": ("donor", "SUBJID", "case_submitter_id", "cases.submitter_id", "Case ID"),
    "age": ("age", "AGE", "age_at_index", "demographic.age_at_index"),
    "sex": ("sex", "SEX", "gender", "demographic.gender", "demographic.sex_at_birth"),
    "ischaemic_min": ("ischaemic_min",),
    "hardy_scale": ("hardy_scale", "DTHHRDY"),
}
_GTEX_SEX = {"1": "male", "2": "female"}
# Whatever the case.
UNKNOWN = {"", "'--", "--", "na", "n/a", "nan", "unknown", "not reported", "unspecified", "not applicable"}


def read_subjects(path: Path | str, keep: Sequence[str] = ()) -> pd.DataFrame:
    """The donors of a table of subjects, one row a donor: donor, those of age, sex, ischaemic_min and hardy_scale that
    it has, and those of `keep`, as strings; empty where it isn't known.

    Raises `ValueError` where no column names the donor, the table says nothing of them, or rows of a donor contradict.
    """
    table = read_table(path)
    found = {ours: next((name for name in names if name in table), None) for ours, names in _COLUMNS.items()}
    if found["donor"] is None:
        need_columns(list(table), [" or ".join(_COLUMNS["donor"])], path)
    columns = {ours: table[name] for ours, name in found.items() if name is not None}
    columns |= {name: table[name] for name in keep if name in table}
    if len(columns) == 1:
        raise ValueError(f"{path} has none of {', '.join([*list(_COLUMNS)[1:], *keep])}; it has {first_few(table, 8)}.")
    subjects = pd.DataFrame(columns)
    for name in [name for name in subjects if name != "donor"]:
        subjects[name] = subjects[name].mask(subjects[name].str.casefold().isin(UNKNOWN), "")
    if found["sex"] == "SEX":
        subjects["sex"] = subjects["sex"].replace(_GTEX_SEX)
    subjects = subjects[subjects["donor"] != ""].drop_duplicates()  # the GDC has a row for each treatment
    twice = subjects.loc[subjects["donor"].duplicated(), "donor"]
    if len(twice):
        raise ValueError(f"{path} says different things of one donor ({first_few(twice.unique())}); keep one row each.")
    return subjects.reset_index(drop=True)


def add_subjects(samples: pd.DataFrame, subjects: pd.DataFrame, path: Path | str, notes: list[str]) -> pd.DataFrame:
    """Samples with the columns of their donors; what the samples' own table says stays, unless it is empty.

    Raises `ValueError` where no donor is in both; those that lack one are counted in `notes`.
    """
    known = samples["donor"].isin(subjects["donor"])
    if not known.any():
        raise ValueError(
            f"No donor is in {path} (--subjects): it starts with {first_few(subjects['donor'], 1)}, the samples with "
            f"{first_few(samples['donor'], 1)}; use the same donor ids."
        )
    if not known.all():
        lacking = samples.loc[~known, "donor"].unique()
        notes.append(f"{len(lacking):,} donors aren't in {path}, so nothing is known of them: {first_few(lacking)}.")
    of_donors = subjects.set_index("donor").reindex(samples["donor"]).fillna("").set_axis(samples.index)
    joined = samples.copy()
    for name in of_donors:
        joined[name] = joined[name].where(joined[name] != "", of_donors[name]) if name in joined else of_donors[name]
    return joined
