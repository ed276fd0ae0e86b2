import pandas as pd
import pytest

from rnagan.cohort.pairing import build_cohort


def table(columns, *rows):
    return pd.DataFrame([row.split(",") for row in rows], columns=columns.split(","))


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


PLACED = table(
    "sample,donor,tissue,site,place",
    "b,d1,Lung,C1,07",
    "a,d1,Lung,C1,05",
    "c,d2,Lung,C2,07",
)


def placed_slides(*rows):
    return table("slide,donor,tissue,site,place", *rows)


def test_pairs_by_place_and_else_by_tissue():
    slides = placed_slides("w1,d1,,,07", "w2,d1,lung,,09", "w3,d1,,,09", "w4,d2,liver,,07", "w5,d9,lung,,07")
    cohort, notes = build_cohort(PLACED, slides, place_name="tissue site")
    assert cohort.columns.tolist() == ["sample", "donor", "tissue", "split", "slide", "site"]
    # by tissue the first in the order given
    assert dict(cohort.loc[cohort["slide"] != "", ["slide", "sample"]].values) == {"w1": "b", "w2": "b", "w4": "c"}
    assert notes[0] == (
        "2 slides are paired by donor and tissue site, 1 by donor and tissue (w2), 2 not at all and left out (w3, w5), "
        "1 of them of donors without a profile."
    )
    assert (
        notes[1] == "1 slides are of another tissue than the profile of their tissue site, as w4, liver against Lung."
    )


def test_an_unpictured_sample_does_not_stand_in_by_tissue():
    samples = PLACED.assign(unpictured=[True, False, False])
    cohort, _ = build_cohort(samples, placed_slides("w2,d1,lung,,09"))
    assert cohort.loc[cohort["slide"] == "w2", "sample"].tolist() == ["a"]
    with pytest.raises(ValueError, match="No slide has a profile .slides w2.: do both tables hold the same donors'"):
        build_cohort(samples[samples["unpictured"]], placed_slides("w2,d1,lung,,09"))


def test_an_empty_place_is_none():
    samples = PLACED.assign(place="")
    with pytest.raises(ValueError, match="No slide has a profile"):
        build_cohort(samples, placed_slides("w1,d1,,,"))


def test_pairs_of_the_earlier_table_stay_and_are_reported():
    lung = SAMPLES[SAMPLES["sample"] == "s2"]
    before, _ = build_cohort(lung, table("slide,donor,tissue,site,mpp", "w1,d1,Lung,K,0.25", "w2,d1,Lung,K,0.5"))
    # s1 would now be the first by name of d1's lung; its new slide joins the earlier ones, and w3's table names s1.
    slides = table("slide,donor,tissue,site", "w1,d1,Lung,", "w9,d1,Lung,")
    after, notes = build_cohort(SAMPLES, slides, existing=before)
    paired = after[after["slide"] != ""].set_index("slide")
    assert paired["sample"].to_dict() == {"w1": "s2", "w2": "s2", "w9": "s2"}
    assert paired["mpp"].to_dict() == {"w1": "0.25", "w2": "0.5", "w9": ""}
    assert paired["site"].to_dict() == {"w1": "K", "w2": "K", "w9": "C1"}
    assert "1 slides of the earlier table are kept without being given again." in notes
    named = table("slide,sample,site,mpp", "w1,s1,,0.26", "w3,s1,,")
    after, notes = build_cohort(SAMPLES, named, existing=before)
    paired = after[after["slide"] != ""].set_index("slide")
    assert paired["sample"].to_dict() == {"w1": "s2", "w2": "s2", "w3": "s1"}
    assert paired["mpp"].to_dict() == {"w1": "0.26", "w2": "0.5", "w3": ""}
    assert any(
        "1 slides keep the profile that the earlier table gives them" in n and "another: w1;" in n for n in notes
    )


def test_a_further_column_of_both_is_the_slides_unless_empty():
    samples = SAMPLES.assign(batch=["x", "y", "z", "v"])
    slides = table("slide,donor,tissue,site,batch", "w4,d3,Brain,,B", "w1,d2,Lung,,")
    cohort, _ = build_cohort(samples, slides)
    assert cohort.set_index("sample")["batch"].to_dict() == {"s1": "y", "s2": "x", "s3": "z", "s4": "B"}
