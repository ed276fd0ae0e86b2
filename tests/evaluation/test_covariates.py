"""Covariates as numbers or labels, by donor, and a sentence for each that can't be analysed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.evaluation.covariates import of_donors, read_covariates

PATH = Path("cohort.csv")


def cohort(**columns: list[str]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"sample": [f"S{k}" for k in range(count)]} | columns)


def test_numbers_ranges_and_labels() -> None:
    table = cohort(age=["60-69", "41", ""], site=["1", "2", "2"], sex=["male", "NA", "female"], batch=["1", "3", "1"])
    read, notes = read_covariates(table, PATH, ("age", "site", "sex", "batch"))
    assert notes == [] and read["age"].tolist()[:2] == [64.5, 41] and np.isnan(read["age"].iloc[2])
    assert read["site"].tolist() == ["1", "2", "2"] and read["sex"].tolist() == ["male", None, "female"]
    assert read["batch"].tolist() == [1, 3, 1]
    assert read_covariates(table, PATH, ("batch",), ("batch",))[0]["batch"].tolist() == ["1", "3", "1"]


def test_what_the_table_lacks_is_said_or_refused() -> None:
    table = cohort(site=["a", "b"], age=["1", "2"])
    read, notes = read_covariates(table, PATH)
    assert list(read) == ["site", "age"]
    assert notes == [
        f"cohort.csv has no column {name}, so nothing can be said of {said} (rnagan build-cohort --subjects adds it)."
        for name, said in (("ischaemic_min", "ischaemic time"), ("sex", "sex"))
    ]
    with pytest.raises(ValueError, match="cohort.csv has no column smoker; it has sample, site, age"):
        read_covariates(table, PATH, ("smoker",))
    with pytest.raises(ValueError, match="--categories names sex, which is no covariate; those are site"):
        read_covariates(table, PATH, ("site",), ("sex",))


def test_by_donor_with_counts_of_what_is_unknown() -> None:
    """Ten donors of two samples each."""
    number = np.arange(20)
    covariates = pd.DataFrame(
        {
            "age": np.where(number < 4, np.nan, number.astype(float)),
            "sex": np.where(number % 4 < 2, "male", "female"),
            "site": np.where(number < 18, "a", "b"),
            "batch": np.where(number < 8, "x", None),
            "few": np.where(number < 4, number.astype(float), np.nan),
            "known": np.where(number < 8, number.astype(float), np.nan),
            "kind": ["p"] * 8 + ["q"] * 8 + ["r"] * 2 + ["s"] * 2,
        },
        [f"S{k}" for k in number],
    )
    rows = pd.DataFrame({"donor": [f"D{k // 2}" for k in number]}, covariates.index)
    kept = of_donors(covariates, rows, "lung")
    assert kept.values["age"].tolist()[2:] == [4.5 + 2 * k for k in range(8)] and kept.values["age"].isna().sum() == 2
    assert list(kept.values) == ["age", "sex", "site", "known", "kind"] and kept.joint == ["age", "sex", "site", "kind"]
    assert set(kept.values["kind"]) == {"p", "q", "other"}
    assert kept.notes == [
        "lung: 1 kinds of centre with fewer than 3 donors (b) count together as other.",
        "lung: all 4 donors have the same batch (x), so nothing can be said of it.",
        "lung: few is known for 2 of 10 donors, too few to say anything.",
        "lung: known is known for 4 of 10 donors, so it is tested alone and not regressed out.",
        "lung: 2 kinds of kind with fewer than 3 donors (r, s) count together as other.",
    ]
