"""Tiles evenly over donors, whole donors in folds, and columns that are refused."""

import numpy as np
import pandas as pd
import pytest

from rnagan.classification.cross_validation import hold_out, make_folds
from rnagan.classification.labelled_tiles import choose_slides, read_tiles
from rnagan.cohort.table import read_cohort
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.reader import TileReader
from rnagan.training.tile_inputs import TileInputs


@pytest.fixture(scope="module")
def shards(inputs: TileInputs) -> ShardSet:
    return open_dataset(inputs.shards)


@pytest.fixture(scope="module")
def cohort(inputs: TileInputs) -> pd.DataFrame:
    return read_cohort(inputs.cohort)


def test_donors_give_evenly_as_far_as_they_have_tiles(shards: ShardSet, cohort: pd.DataFrame) -> None:
    stored = shards.slides.set_index("slide")["tiles"]
    for count in (7, 24, 30, 1000):
        rows = choose_slides(shards, cohort, "tissue", count, seed=0)
        for tissue, own in rows.groupby("label"):
            there = stored[own["slide"]].to_numpy()
            everything = stored[cohort.loc[(cohort["tissue"] == tissue) & (cohort["slide"] != ""), "slide"]].sum()
            assert own["tiles"].sum() == min(count, everything)
            most = own["tiles"].max()
            # who gives fewer than another by more than one tile has no more
            assert ((own["tiles"] >= most - 1) | (own["tiles"] == there)).all()
            assert len(own) == min(count, 12)
    assert not rows.equals(choose_slides(shards, cohort, "tissue", 7, seed=0))


def test_a_donors_slides_take_turns_and_images_beside_a_profile_are_of_their_own_donor(
    shards: ShardSet, cohort: pd.DataFrame
) -> None:
    rows = choose_slides(
        shards, cohort.assign(half=lambda t: (t["donor"] > "D4").map({True: "b", False: "a"})), "half", 20, 0
    )
    of_donor = rows.groupby("donor")["tiles"].agg(["min", "max", "count"])
    assert (of_donor["max"] - of_donor["min"] <= 1).all() and (of_donor["count"] == 2).any()
    images = cohort.assign(image_donor="person-" + cohort["slide"])
    assert choose_slides(shards, images, "tissue", 20, 0)["donor"].str.startswith("person-").all()


def test_tiles_are_the_first_ones_of_each_shard(shards: ShardSet, cohort: pd.DataFrame) -> None:
    rows = choose_slides(shards, cohort, "tissue", 14, seed=0)
    data = read_tiles(shards, rows, ["cortex", "lung"], 32)
    assert data.tiles.shape == (28, 32, 32, 3) and np.bincount(data.labels).tolist() == [14, 14]
    expected = np.empty((32, 32, 3), np.uint8)
    TileReader(shards, [rows["slide"].iloc[-1]]).decode(0, int(rows["tiles"].iloc[-1]) - 1, expected)
    assert (data.tiles[-1] == expected).all() and data.donors[-1] == rows["donor"].iloc[-1]
    with pytest.raises(ValueError, match="tiles of 32 px, which don't shrink evenly to 24 px"):
        read_tiles(shards, rows, ["cortex", "lung"], 24)


def test_columns_without_two_classes_are_refused(shards: ShardSet, cohort: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="has no column grade; it has sample, donor"):
        choose_slides(shards, cohort, "grade", 5, 0)
    with pytest.raises(ValueError, match="too few classes of column tissue .lung.; two are needed"):
        choose_slides(shards, cohort[cohort["tissue"] == "lung"], "tissue", 5, 0)
    twice = pd.concat([cohort, cohort.iloc[:1].assign(tissue="lung")])
    with pytest.raises(ValueError, match="Slide D0-cortex-slide has two values of tissue"):
        choose_slides(shards, twice, "tissue", 5, 0)
    with pytest.raises(ValueError, match="split by block, and a classifier can't choose among the tiles of a slide"):
        choose_slides(shards, cohort.assign(split_by="block"), "tissue", 5, 0)


def test_no_donor_is_on_both_sides_and_every_tile_is_tested_once() -> None:
    donors = np.repeat([f"D{k}" for k in range(20)], 7)
    labels = (np.arange(140) // 7 % 2).astype(np.int64)
    folds = make_folds(labels, donors, 5, ["a", "b"], seed=0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(140))
    for train, test in folds:
        assert not set(donors[train]) & set(donors[test])
        assert labels[test].mean() == 0.5
    assert any((a[1] != b[1]).any() for a, b in zip(folds, make_folds(labels, donors, 5, ["a", "b"], 1), strict=True))
    train, stop_on = hold_out(labels, donors, 0.2, ["a", "b"], 0)
    assert len(stop_on) == 28 and not set(donors[train]) & set(donors[stop_on])
    with pytest.raises(ValueError, match="Class a has 10 donors, too few for 11 parts"):
        make_folds(labels, donors, 11, ["a", "b"], 0)
