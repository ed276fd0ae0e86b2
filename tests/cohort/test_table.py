import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnagan.cohort import table
from rnagan.cohort.table import assign_splits, read_cohort


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
        (
            "sample,donor,tissue,split,slide,site,image_donor\na,d,t,train,,,\nb,e,t,test,v,,d\nc,f,t,test,,,\n",
            "has a person in two splits .d.",
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
@pytest.mark.parametrize("lean_rows", [table.LEAN_ROWS, 1])
def test_bad_cohort_tables(tmp_path, monkeypatch, text, sentence, lean_rows):
    monkeypatch.setattr(table, "LEAN_ROWS", lean_rows)
    (tmp_path / "cohort.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_cohort(tmp_path / "cohort.csv")


donors = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.sets(st.sampled_from(["lung", "brain", "skin"]), min_size=1),
    min_size=1,
    max_size=60,
)


def shares(splits):
    return [sum(split == name for split in splits.values()) for name in ("train", "validation", "test")]


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


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("b,d,t,test,w,,block\na,d,t,train,w,,block\na,d,t,test,v,,block\n", "has a sample in two splits .a."),
        ("a,d,t,train,w,,block\nb,d,t,test,w,,block\n", None),
        ("GTEX-1-a,d,t,train,w,,donor\nGTEX-1-b,e,t,test,v,,donor\n", "has a person in two splits .GTEX-1."),
        ("b,d,t,test,w,,donor\na,d,t,test,w,,donor\na,d,t,test,w,,donor\n", "has sample a with slide w twice"),
    ],
)
@pytest.mark.parametrize("lean_rows", [table.LEAN_ROWS, 1])
def test_what_lies_in_two_splits(tmp_path, monkeypatch, rows, said, lean_rows):
    monkeypatch.setattr(table, "LEAN_ROWS", lean_rows)
    (tmp_path / "cohort.csv").write_text(f"sample,donor,tissue,split,slide,site,split_by\n{rows}")
    with pytest.raises(ValueError, match=said) if said else contextlib.nullcontext():
        read_cohort(tmp_path / "cohort.csv")
