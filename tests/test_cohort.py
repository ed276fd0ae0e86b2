import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnagan.cohort import (
    assign_splits,
    build_cohort,
    make_cohort_table,
    read_cohort,
    read_samples,
    read_slides,
    slide_id,
)

SCRIPT = Path(__file__).parents[1] / "shards" / "build_cohort.py"
donors = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.sets(st.sampled_from(["lung", "brain", "skin"]), min_size=1),
    min_size=1,
    max_size=60,
)


def table(columns, *rows):
    return pd.DataFrame([row.split(",") for row in rows], columns=columns.split(","))


def shares(splits):
    return [sum(split == name for split in splits.values()) for name in ("train", "validation", "test")]


def test_slide_id():
    assert slide_id("/x/GTEX-15RJ7-0625.svs") == "GTEX-15RJ7-0625"
    assert slide_id("TCGA-02.0cc8.svs") == "TCGA-02_0cc8"


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 97, 100])
def test_one_tissue_is_split_as_asked(n):
    counts = shares(assign_splits({f"d{k}": {"lung"} for k in range(n)}))
    assert np.abs(np.array(counts) - np.array([0.6, 0.2, 0.2]) * n).max() < 1


def test_every_tissue_is_split_as_asked_though_sets_are_rare():
    random = np.random.default_rng(0)
    tissues = {f"d{k}": {f"t{t}" for t in random.choice(12, random.integers(1, 8), replace=False)} for k in range(400)}
    splits = assign_splits(tissues)
    for tissue in {t for of_donor in tissues.values() for t in of_donor}:
        counts = np.array(shares({d: s for d, s in splits.items() if tissue in tissues[d]}))
        assert np.abs(counts / counts.sum() - [0.6, 0.2, 0.2]).max() < 0.05
    assert np.abs(np.array(shares(splits)) / 400 - [0.6, 0.2, 0.2]).max() < 0.02


def test_the_seed_decides():
    tissues = {f"d{k}": {"lung"} for k in range(30)}
    assert (
        assign_splits(tissues, seed=1)
        == assign_splits(dict(reversed(tissues.items())), seed=1)
        != assign_splits(tissues, seed=2)
    )


@settings(deadline=None)
@given(donors, donors, st.integers(0, 3))
def test_nobody_moves_when_donors_are_added(first, more, seed):
    before = assign_splits(first, seed=seed)
    everybody = {donor: first.get(donor, set()) | more.get(donor, set()) for donor in {*first, *more}}
    after = assign_splits(everybody, seed=seed, existing=before)
    assert set(after) == set(everybody)
    assert {donor: after[donor] for donor in before} == before
    excess = np.array(shares(after)) - np.ceil(np.array([0.6, 0.2, 0.2]) * len(everybody))
    assert (excess <= np.maximum(3, np.array(shares(before)))).all()


def test_added_donors_mend_the_proportions():
    existing = {f"d{k}": "train" for k in range(20)}
    splits = assign_splits({f"d{k}": {"lung"} for k in range(50)}, existing=existing)
    assert shares(splits) == [30, 10, 10]


SAMPLES = table("sample,donor,tissue,site", "s2,d1,Lung,C1", "s1,d1,Lung,C1", "s3,d2,Lung,C2", "s4,d3,Brain,C1")


def test_pairs_by_donor_and_tissue():
    slides = table("slide,donor,tissue,site", "w1,d1,lung,K9", "w2,d1,LUNG,", "w3,d2,Brain,", "w4,d3,Brain,")
    cohort, notes = build_cohort(SAMPLES, slides)
    assert cohort.columns.tolist() == ["sample", "donor", "tissue", "split", "slide", "site"]
    rows = cohort.drop(columns="split").values.tolist()
    assert rows == [
        ["s1", "d1", "Lung", "w1", "K9"],
        ["s1", "d1", "Lung", "w2", "C1"],
        ["s2", "d1", "Lung", "", "C1"],
        ["s3", "d2", "Lung", "", "C2"],
        ["s4", "d3", "Brain", "w4", "C1"],
    ]
    assert notes == [
        "1 donors' tissues have several profiles; their slides go with the first by name.",
        "1 slides have no profile and are left out: w3.",
        "2 profiles have no slide and are kept for the VAE: s2, s3.",
    ]


def test_pairs_by_sample_where_the_slides_name_it():
    slides = table("slide,sample,site", "w1,s2,", "w2,s4,", "w3,s9,")
    cohort, _ = build_cohort(SAMPLES, slides)
    assert dict(cohort.loc[cohort["slide"] != "", ["slide", "sample"]].values) == {"w1": "s2", "w2": "s4"}


def test_no_pair_at_all_is_refused():
    with pytest.raises(ValueError, match="No slide has a profile .slides w1"):
        build_cohort(SAMPLES, table("slide,donor,tissue,site", "w1,x,Lung,"))


def tissue_case(image_donors=13, profiles=6):
    samples = pd.DataFrame(
        [
            {"sample": f"{t}{n}", "donor": f"{t}{n}", "tissue": t, "site": ""}
            for t in ("Lung", "Colon")
            for n in range(profiles)
        ]
    )
    slides = pd.DataFrame(
        [
            {"slide": f"{t}-{n}-{k}", "donor": f"{t}-{n}", "tissue": t, "site": ""}
            for t in ("lung", "colon")
            for n in range(image_donors)
            for k in range(2)
        ]
    )
    return samples, slides


def test_pairs_by_tissue_are_even_and_keep_an_image_donor_together():
    samples, slides = tissue_case()
    cohort, _ = build_cohort(samples, slides, "tissue")
    paired = cohort[cohort["slide"] != ""]
    assert len(paired) == len(slides)
    assert (paired["tissue"].str.lower() == paired["image_donor"].str.split("-").str[0]).all()
    assert (paired.groupby("image_donor")["donor"].nunique() == 1).all()
    assert set(paired.groupby("sample")["image_donor"].nunique()) == {2, 3}
    assert not build_cohort(samples, slides, "tissue", seed=1)[0].equals(cohort)


def test_extending_by_tissue_moves_no_image_donor():
    samples, slides = tissue_case(5)
    before, _ = build_cohort(samples, slides, "tissue")
    after, _ = build_cohort(*tissue_case(13, 9), "tissue", existing=before)
    both = before[before["slide"] != ""].merge(after, on="slide", suffixes=("", "_after"))
    assert (
        len(both) == len(slides)
        and (both["sample"] == both["sample_after"]).all()
        and (both["split"] == both["split_after"]).all()
    )


def test_extending_with_another_tissue_keeps_the_first():
    lung, brain = SAMPLES[SAMPLES["tissue"] == "Lung"], SAMPLES[SAMPLES["tissue"] == "Brain"]
    before, _ = build_cohort(lung, table("slide,donor,tissue,site", "w1,d1,Lung,"))
    after, _ = build_cohort(brain, table("slide,donor,tissue,site", "w4,d3,Brain,"), existing=before)
    assert after[after["sample"].isin(before["sample"])].reset_index(drop=True).equals(before)
    assert after["sample"].tolist() == ["s1", "s2", "s3", "s4"]


def test_an_image_donor_of_two_tissues_cannot_be_paired_by_tissue():
    samples, slides = tissue_case()
    slides.loc[0, "tissue"] = "colon"
    with pytest.raises(ValueError, match="Image donors with several tissues .lung-0"):
        build_cohort(samples, slides, "tissue")


def test_gtex_attributes_are_recognised(tmp_path):
    path = tmp_path / "attributes.tsv"
    path.write_text(
        "SAMPID\tSMATSSCR\tSMTS\tSMTSD\tSMCENTER\tSMAFRZE\n"
        "GTEX-1117F-0226-SM-5GZZ7\t0\tLung\tLung\tB1\tRNASEQ\n"
        "GTEX-1117F-0003-SM-58Q7G\t\tBlood\tWhole Blood\tB1, A1\tWGS\n"
    )
    assert read_samples(path).values.tolist() == [["GTEX-1117F-0226-SM-5GZZ7", "GTEX-1117F", "Lung", "B1"]]


def test_a_wide_expression_table_gives_the_samples(tmp_path):
    path = tmp_path / "expression.csv.gz"
    wide = table("sample,tissue", "GTEX-1-2-SM-3,NA", "GTEX-4-2-SM-3,Lung").join(
        pd.DataFrame(np.ones((2, 500)), columns=range(500))
    )
    wide.to_csv(path, index=False)
    assert read_samples(path).values.tolist() == [
        ["GTEX-1-2-SM-3", "GTEX-1", "NA", ""],
        ["GTEX-4-2-SM-3", "GTEX-4", "Lung", ""],
    ]
    assert read_samples(path, {"donor": "tissue"})["donor"].tolist() == ["NA", "Lung"]


def test_slides_by_file_name_and_tables_of_tiles(tmp_path):
    path = tmp_path / "slides.csv"
    path.write_text("slide,donor,tissue\nA-1.0.svs,d1,Lung\nB.2,d2,Lung\n")
    assert read_slides(path)["slide"].tolist() == ["A-1_0", "B_2"]
    path.write_text("path,tissue,source\na.png,lung,d.1\nb.png,lung,d.1\nc.png,colon,d2\n")
    assert read_slides(path, {"donor": "source"})[["slide", "donor", "tissue"]].values.tolist() == [
        ["d_1", "d.1", "lung"],
        ["d2", "d2", "colon"],
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sample,donor,tissue,split,slide\n", "has no column site; it has sample, donor"),
        (
            "sample,donor,tissue,split,slide,site\na,d,t,train,,\nb,d,t,test,,\n",
            "has a donor in two splits .d.; training would see",
        ),
        ("sample,donor,tissue,split,slide,site\na,d,t,train,w,\nb,e,t,test,w,\n", "has a slide in two splits .w."),
        (
            "sample,donor,tissue,split,slide,site,image_donor\na,d,t,train,w,,i\nb,e,t,test,v,,i\n",
            "has a image_donor in two splits .i.",
        ),
        ("sample,donor,tissue,split,slide,site\na,d,t,train,w,\na,d,t,train,w,\n", "has sample a with slide w twice"),
        ("sample,donor,tissue,split,slide,site\na,d,t,train,../w,\n", "can't name a shard"),
        (
            "sample,donor,tissue,split,slide,site\na,d,t,holdout,,\n",
            "has split 'holdout'; it must be one of train, validation, test",
        ),
        ("sample,donor,tissue,split,slide,site\na,,t,test,,\n", "has rows without a donor .line 2."),
        ("", "is no readable comma-separated table"),
    ],
)
def test_bad_cohort_tables(tmp_path, text, sentence):
    (tmp_path / "cohort.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_cohort(tmp_path / "cohort.csv")


@pytest.fixture
def tables(tmp_path):
    pd.DataFrame([{"SAMPID": f"SIM-{n:04d}-0226-SM-X", "SMTSD": "Lung", "SMCENTER": "B1"} for n in range(10)]).to_csv(
        tmp_path / "samples.tsv", sep="\t", index=False
    )
    pd.DataFrame(
        [{"slide": f"SIM-{n:04d}-0225", "donor": f"SIM-{n:04d}", "tissue": "Lung", "site": "S"} for n in range(5)]
    ).to_csv(tmp_path / "slides.csv", index=False)
    return tmp_path / "samples.tsv", tmp_path / "slides.csv", tmp_path / "cohort.csv"


def test_script_writes_repeats_and_extends(tables):
    samples, slides, out = tables
    command = [sys.executable, SCRIPT, "--samples", samples, "--slides", slides, "--out", out]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "10 profiles, 5 slides, 10 donors (6 train, 2 validation, 2 test)." in first
    before = read_cohort(out)
    assert "is up to date" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    samples.write_text(samples.read_text() + "SIM-0100-0226-SM-X\tLung\tB1\n")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "exists and would change; add --extend" in refused.stderr
    subprocess.run([*command, "--extend", out], capture_output=True, text=True, check=True)
    after = read_cohort(out)
    assert len(after) == 11 and after[:10].equals(before)


def test_missing_columns_are_named(tables):
    samples, slides, out = tables
    with pytest.raises(
        ValueError, match="Neither .*samples.tsv nor .*slides.csv has the column person .--donor-column."
    ):
        make_cohort_table(samples, slides, out, columns={"donor": "person"})
    slides.write_text("slide,donor\nw,d\n")
    with pytest.raises(ValueError, match="slides.csv has no column tissue; it has slide, donor"):
        make_cohort_table(samples, slides, out)
