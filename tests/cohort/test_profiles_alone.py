"""Cohorts without slides, in one split, or split by sample."""

import numpy as np
import pandas as pd
import pytest

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.cohort.table import OPTIMISTIC, read_cohort


@pytest.fixture
def samples(write):
    """Sixty donors of GTEx with two samples each, named as some tables name them, with a trailing .1."""
    rows = [
        f"GTEX-{n:04d}-{site}-SM-9WPP3.1|{tissue}" for n in range(60) for site, tissue in ((2726, "a"), (1226, "b"))
    ]
    return write("samples.csv", "sample|tissue", *rows)


def test_gtex_ids_give_the_donor(samples, tmp_path):
    lines = make_cohort_table(samples, None, tmp_path / "c.csv")
    assert lines[0] == "Rule gtex (recognised by the ids): profiles without slides."
    assert lines[-1].endswith("120 profiles, 0 slides, 60 donors (36 train, 12 validation, 12 test).")
    cohort = read_cohort(tmp_path / "c.csv")
    assert cohort["donor"].tolist() == [f"GTEX-{n:04d}" for n in range(60) for _ in range(2)]
    assert (cohort["slide"] == "").all() and "split_by" not in cohort


def test_everybody_in_one_split(samples, tmp_path):
    make_cohort_table(samples, None, tmp_path / "c.csv", CohortOptions(all_in="test"))
    assert set(read_cohort(tmp_path / "c.csv")["split"]) == {"test"}


def test_split_by_sample_on_request(samples, tmp_path):
    options = CohortOptions(split_by="sample")
    lines = make_cohort_table(samples, None, tmp_path / "c.csv", options)
    assert OPTIMISTIC in lines and "(samples by split: 72 train, 24 validation, 24 test)" in lines[-1]
    cohort = read_cohort(tmp_path / "c.csv")
    assert set(cohort["split_by"]) == {"sample"}
    assert (cohort.groupby("donor")["split"].nunique() > 1).any()
    shares = cohort.groupby("tissue")["split"].value_counts(normalize=True).unstack()
    assert np.abs(shares[["train", "validation", "test"]] - [0.6, 0.2, 0.2]).to_numpy().max() < 0.02
    cohort.drop(columns="split_by").to_csv(tmp_path / "silent.csv", index=False)
    with pytest.raises(ValueError, match="silent.csv has a donor in two splits"):
        read_cohort(tmp_path / "silent.csv")
    cohort.assign(split_by=["sample"] * 119 + [""]).to_csv(tmp_path / "mixed.csv", index=False)
    with pytest.raises(ValueError, match="has '', 'sample' in the column split_by; it must be donor or sample"):
        read_cohort(tmp_path / "mixed.csv")


def test_extending_keeps_samples_and_the_kind_of_split(samples, tmp_path):
    out = tmp_path / "c.csv"
    make_cohort_table(samples, None, out, CohortOptions(split_by="sample"))
    before = read_cohort(out)
    samples.write_text(samples.read_text() + "".join(f"GTEX-1{n:03d}-0126-SM-A,c\n" for n in range(10)))
    make_cohort_table(samples, None, out, CohortOptions(split_by="sample"), extend=out)
    after = read_cohort(out)
    assert len(after) == 130 and after[after["sample"].isin(before["sample"])].reset_index(drop=True).equals(before)
    with pytest.raises(ValueError, match="was split by sample; go on with --split-by sample"):
        make_cohort_table(samples, None, out, extend=out)
    with pytest.raises(ValueError, match="--all-in puts everybody into one split, and --extend"):
        make_cohort_table(samples, None, out, CohortOptions(all_in="test"), extend=out)


def test_a_slide_stays_in_one_split_when_samples_are_dealt(samples, write, tmp_path):
    slides = write("slides.csv", "slide|tissue", *(f"GTEX-{n:04d}-2725|a" for n in range(60)))
    make_cohort_table(samples, slides, tmp_path / "c.csv", CohortOptions(split_by="sample"))
    cohort = read_cohort(tmp_path / "c.csv")
    assert (cohort["slide"] != "").sum() == 60
    both = pd.concat([cohort, cohort[cohort["slide"] != ""].head(1).assign(sample="x", split="test")])
    both.loc[both["slide"] == both["slide"].iloc[-1], "split"] = ["train", "test"]
    both.to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(ValueError, match="d.csv has a slide in two splits"):
        read_cohort(tmp_path / "d.csv")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"all_in": "holdout"}, "--all-in must be one of train, validation, test, not 'holdout'"),
        ({"split_by": "slide"}, "--split-by must be one of donor, sample, section, block, not 'slide'"),
        ({"split_by": "sample", "all_in": "test"}, "leave out --split-by sample"),
        ({"keep": ("split_by",)}, "--keep split_by names a column with a meaning of its own"),
    ],
)
def test_options_that_can_not_be(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        CohortOptions(**options)


def test_pairing_by_tissue_needs_slides(samples, tmp_path):
    with pytest.raises(ValueError, match="--pair-by tissue pairs slides with profiles; give --slides"):
        make_cohort_table(samples, None, tmp_path / "c.csv", CohortOptions(pair_by="tissue"))
    with pytest.raises(ValueError, match=r"samples.csv has no column person \(--donor-column\)"):
        make_cohort_table(samples, None, tmp_path / "c.csv", CohortOptions(columns={"donor": "person"}))


@pytest.mark.parametrize("name", ["x.csv", "x.tsv.gz", "x.gct", "x.parquet", "x.h5ad"])
def test_samples_may_come_from_expression_whose_rows_are_genes(write, tmp_path, name):
    head, genes = ["GTEX-1-0126-SM-A", "GTEX-2-0126-SM-A"], [f"ENSG{n:011d}" for n in range(3)]
    frame = pd.DataFrame([[1.0, 2.0]] * 3, pd.Index(genes, name="gene_id"), head)
    path = tmp_path / name
    if name == "x.parquet":
        frame.to_parquet(path)
    elif name == "x.h5ad":
        import anndata

        anndata.AnnData(frame.T).write_h5ad(path)
    else:
        rows = [f"{gene}|1|2" if name != "x.gct" else f"{gene}|A|1|2" for gene in genes]
        top = (
            ["gene_id|" + "|".join(head)] if name != "x.gct" else ["#1.2", "3|2", "Name|Description|" + "|".join(head)]
        )
        path = write(name, *top, *rows)
    make_cohort_table(path, None, tmp_path / "c.csv", CohortOptions(tissue="lung"))
    assert read_cohort(tmp_path / "c.csv")["donor"].tolist() == ["GTEX-1", "GTEX-2"]
