"""A centre left out of training."""

import pandas as pd
import pytest

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.cohort.leave_out import leave_out
from rnagan.cohort.spots import SpotOptions, make_spot_cohort
from rnagan.cohort.table import LEFT_OUT, read_cohort


@pytest.fixture
def samples(tmp_path):
    """Thirty donors of three centres with a sample of two tissues each; D4 was seen in two of them."""
    rows = [
        (f"D{d}-{tissue}", f"D{d}", tissue, "C2" if (d, tissue) == (4, "skin") else f"C{d % 3}")
        for d in range(30)
        for tissue in ("lung", "skin")
    ]
    table = pd.DataFrame(rows, columns=["sample", "donor", "tissue", "site"])
    table.to_csv(tmp_path / "samples.csv", index=False)
    return tmp_path / "samples.csv"


def cohort_of(samples, name, **options):
    out = samples.parent / name
    lines = make_cohort_table(samples, None, out, CohortOptions(**options))
    return read_cohort(out), lines


def test_people_of_a_centre_are_in_a_split_of_their_own_and_others_stay(samples):
    usual, _ = cohort_of(samples, "usual.csv")
    left, lines = cohort_of(samples, "left.csv", leave_out="site=C2")
    out = left["split"] == LEFT_OUT
    assert set(left.loc[out, "donor"]) == {f"D{d}" for d in range(2, 30, 3)} | {"D4"}  # with D4's sample of C1
    assert (left["split"] == usual["split"])[~out].all()
    assert "Left out (site=C2): 11 donors" in "\n".join(lines) and "with 1 rows of theirs elsewhere" in "\n".join(lines)
    assert "11 left_out" in lines[-1]


def test_image_donors_go_with_their_rows():
    rows = [
        ("a", "A", "train", "s1", "I1", "C1"),
        ("b", "B", "train", "s2", "I1", "C2"),
        ("c", "C", "train", "s3", "I3", "C2"),
    ]
    cohort = pd.DataFrame(rows, columns=["sample", "donor", "split", "slide", "image_donor", "site"]).assign(
        tissue="lung"
    )
    found, _ = leave_out(cohort, "site=C1")
    assert found["split"].tolist() == [LEFT_OUT, LEFT_OUT, "train"]


def test_a_section_is_left_out_alone(tmp_path):
    rows = [(f"S{s}_{k}", f"S{s}", "D", "breast", "P1" if s else "P2") for s in range(5) for k in range(3)]
    pd.DataFrame(rows, columns=["spot", "section", "donor", "tissue", "place"]).to_csv(
        tmp_path / "spots.csv", index=False
    )
    options = SpotOptions("spot", "section", site="place", split_by="section", leave_out="site=P2")
    make_spot_cohort(tmp_path / "spots.csv", tmp_path / "cohort.csv", options)
    table = read_cohort(tmp_path / "cohort.csv")
    assert set(table.loc[table["split"] == LEFT_OUT, "slide"]) == {"S0"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"leave_out": "site=C9"}, "no row has site 'C9'"),
        ({"leave_out": "centre=C1"}, "has no column centre"),
        ({"leave_out": "site"}, "is no condition"),
        ({"leave_out": "site=C0,C1,C2"}, "leaves nobody to train on"),
        ({"leave_out": "site=C1", "all_in": "test"}, "leave out --leave-out"),
    ],
)
def test_what_can_not_be_left_out(samples, options, said):
    with pytest.raises(ValueError, match=said):
        cohort_of(samples, "cohort.csv", **options)


def test_an_extended_table_keeps_those_who_were_left_out(samples):
    left, _ = cohort_of(samples, "left.csv", leave_out="site=C2")
    more = pd.read_csv(samples)
    new = more.iloc[:2].assign(sample=["N-lung", "N-skin"], donor="N")
    pd.concat([more, new]).to_csv(samples, index=False)
    path = samples.parent / "left.csv"
    make_cohort_table(samples, None, path, CohortOptions(), extend=path)
    found = read_cohort(path).set_index("sample")["split"]
    assert (found[left["sample"]].to_numpy() == left["split"].to_numpy()).all() and found["N-lung"] != LEFT_OUT
    with pytest.raises(ValueError, match="--leave-out moves people"):
        make_cohort_table(samples, None, path, CohortOptions(leave_out="site=C1"), extend=path)
