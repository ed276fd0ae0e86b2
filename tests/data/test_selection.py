import pandas as pd
import pytest

from rnagan.data.selection import select


@pytest.fixture
def shards(make_shards):
    return make_shards({"s1": 5, "s2": 2, "s3": 0, "s4": 3, "s5": 4, "s6": 1})


def cohort(*rows):
    table = pd.DataFrame(rows, columns=["sample", "slide", "split"])
    return table.assign(donor=table["sample"].str[0], tissue="lung", site="")


COHORT = cohort(
    ("a1", "s4", "train"),
    ("b1", "s1", "train"),
    ("c1", "s2", "validation"),
    ("d1", "s3", "train"),
    ("e1", "gone", "train"),
    ("f1", "", "train"),
    ("g1", "s6", "test"),
)


def test_slides_of_a_split_with_their_profiles(shards):
    chosen = select(shards, COHORT, "train", tiles_per_slide=4)
    assert chosen.table[["slide", "sample"]].values.tolist() == [["s1", "b1"], ["s4", "a1"]]
    assert chosen.table.index.tolist() == [0, 1]  # rows are what the loader's slide numbers count
    assert chosen.counts.tolist() == [4, 3] and chosen.counts.dtype == "int64"
    assert select(shards, COHORT, "validation", 600).counts.tolist() == [2]


def test_what_is_left_out_is_listed(shards):
    assert select(shards, COHORT, "train", 4).left_out == {
        "slides that the selection doesn't want": [],
        "slides in the cohort table without shards": ["gone"],
        "slides without tiles": ["s3"],
        "samples beyond the first of a slide": [],
        "shards without a row in the cohort table": ["s5"],
    }


def test_a_slide_of_two_samples_counts_once(shards):
    chosen = select(shards, cohort(("z1", "s1", "train"), ("z2", "s1", "train")), "train", 600)
    assert chosen.table["sample"].tolist() == ["z1"] and chosen.counts.tolist() == [5]
    assert chosen.left_out["samples beyond the first of a slide"] == ["z2"]


def test_the_selection_does_not_depend_on_the_order_of_rows(shards):
    again = select(shards, COHORT.iloc[::-1], "train", 4)
    pd.testing.assert_frame_equal(again.table, select(shards, COHORT, "train", 4).table)


@pytest.mark.parametrize("split", ["test", "other"])
def test_a_split_without_tiles_is_refused(shards, split):
    with pytest.raises(ValueError, match=f"No slide of split {split} has tiles in .*shards; is it the cohort table of"):
        select(shards, COHORT[COHORT["slide"] != "s6"], split, 600)
