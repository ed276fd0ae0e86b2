"""The dealing of profiles into shards, and the one order over a split, from memory as from shards."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnagan.data.profile_layout import Arrangement, deal
from rnagan.data.sampler import TileOrder

SAMPLES = [f"s{n}.1" for n in range(23)]


@pytest.mark.slow
@pytest.mark.guard
@given(st.lists(st.text(max_size=5), unique=True, min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 3))
def test_each_profile_is_dealt_once_whatever_order_they_come_in(samples, per_shard, seed):
    shards = deal(samples, seed, per_shard)
    assert sorted(np.concatenate(shards)) == list(range(len(samples)))
    assert [len(rows) for rows in shards[:-1]] == [per_shard] * (len(shards) - 1) and 0 < len(shards[-1]) <= per_shard
    named = [[samples[row] for row in rows] for rows in shards]
    backwards = samples[::-1]
    assert [[backwards[row] for row in rows] for rows in deal(backwards, seed, per_shard)] == named


def test_another_seed_deals_otherwise_and_the_first_of_a_shard_are_a_uniform_draw():
    assert not np.array_equal(deal(SAMPLES, 0, 8)[0], deal(SAMPLES, 1, 8)[0])
    firsts = np.bincount([deal(SAMPLES, seed, 8)[1][0] for seed in range(2300)], minlength=23)
    assert abs(firsts - 100).max() < 45  # SD 10


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("wanted", [SAMPLES[:15], SAMPLES[4:5], SAMPLES])
def test_each_selected_profile_comes_once_an_epoch(seed, wanted):
    arrangement = Arrangement.dealt(SAMPLES, per_shard=4)
    selection = arrangement.select(wanted)
    assert sorted(selection.samples) == sorted(wanted)
    order = selection.order(seed, window=3)
    shown = [arrangement.samples[row] for row in selection.rows(order.locate(0, 3 * len(wanted)))]
    epochs = [shown[at : at + len(wanted)] for at in range(0, len(shown), len(wanted))]
    assert all(sorted(epoch) == sorted(wanted) for epoch in epochs)
    if len(wanted) > 1:
        assert epochs[0] != epochs[1] != epochs[2]
    parts = [selection.rows(order.locate(at, 7)) for at in range(0, 3 * len(wanted), 7)]
    again = np.concatenate(parts)[: len(shown)]
    assert [arrangement.samples[row] for row in again] == shown
    copy = pickle.loads(pickle.dumps(order))
    np.testing.assert_array_equal(copy.locate(5, 40), order.locate(5, 40))


def test_few_profiles_in_one_shard_come_in_another_order_in_each_epoch():
    alone = TileOrder(np.array([23]), 0)  # would show them in the same order for ever
    np.testing.assert_array_equal(alone.locate(0, 23), alone.locate(23, 23))
    selection = Arrangement.dealt(SAMPLES).select(SAMPLES)
    order = selection.order(0)
    assert len(selection.counts) == 1 and order.shares.tolist() == [1.0]
    epochs = [tuple(order.locate(23 * epoch, 23)[:, 1]) for epoch in range(5)]
    assert len(set(epochs)) == 5 and all(sorted(epoch) == list(range(23)) for epoch in epochs)


def test_samples_that_are_not_there_are_passed_over_and_none_at_all_refused():
    arrangement = Arrangement.dealt(SAMPLES)
    assert arrangement.select(["s3.1", "other"]).samples == ["s3.1"]
    with pytest.raises(ValueError, match=r"None of the 2 selected samples \(a, b\) is among the 23 profiles \(s"):
        arrangement.select(["a", "b"])
