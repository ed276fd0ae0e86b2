import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnagan.data import sampler as module
from rnagan.data.sampler import Order, TileOrder, WeightedOrder

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)
PLAIN = st.builds(TileOrder, COUNTS, seed=st.integers(0, 5), window=st.integers(1, 14), by_slide=st.booleans())


@st.composite
def weighted(draw: st.DrawFn) -> WeightedOrder:
    """Two or three tissues, all with tiles, one perhaps of weight 0."""
    names = draw(st.sampled_from(["ab", "abc"]))
    counts = [draw(st.integers(1, 9)) for _ in names] + draw(st.lists(st.integers(0, 9), max_size=9))
    groups = [*names, *(draw(st.sampled_from(names)) for _ in counts[len(names) :])]
    weights = {name: draw(st.sampled_from([0.001, 0.5, 1, 3, 10])) for name in names}
    if draw(st.booleans()):
        weights["b"] = 0
    return WeightedOrder(counts, groups, weights, draw(st.integers(0, 5)), draw(st.integers(1, 14)))


ORDERS = st.one_of(PLAIN, weighted())


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """So that several fit into what is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 60)
        patch.setattr(module, "TURN", 10)
        yield


def again(order: Order) -> Order:
    """The same order, made anew."""
    if isinstance(order, TileOrder):
        return TileOrder(order.counts, order.seed, order.window)
    return pickle.loads(pickle.dumps(order))  # as worker processes get it


def every_tile(counts):
    return sorted((slide, k) for slide, n in enumerate(counts) for k in range(n))


@given(PLAIN)
@settings(deadline=None, max_examples=150)
def test_every_epoch_holds_each_tile_once(order):
    for epoch in range(3):
        tiles = order.locate(epoch * order.epoch_length, order.epoch_length)
        assert sorted(map(tuple, tiles.tolist())) == every_tile(order.counts)


@given(ORDERS, st.integers(0, 200), st.integers(0, 90), st.integers(0, 90))
@settings(deadline=None, max_examples=150)
def test_addressed_by_image_number(order, start, n, m):
    whole = order.locate(start, n + m)
    assert whole.shape == (n + m, 2) and whole.dtype == np.int64
    np.testing.assert_array_equal(whole, np.concatenate([order.locate(start, n), order.locate(start + n, m)]))
    other = again(order)
    other.locate(7 * order.epoch_length, 3)  # what was read before doesn't matter
    np.testing.assert_array_equal(whole, other.locate(start, n + m))


@given(ORDERS, st.integers(0, 50), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5))
@settings(deadline=None, max_examples=100)
def test_slices_of_any_number_of_processes_make_the_same_sequence(order, start, processes, share, batches):
    batch_size = processes * share
    slices = [
        order.locate(start + b * batch_size + rank * share, share) for b in range(batches) for rank in range(processes)
    ]
    np.testing.assert_array_equal(np.concatenate(slices), order.locate(start, batches * batch_size))


@given(COUNTS, st.integers(1, 14), st.integers(0, 3))
@settings(deadline=None, max_examples=100)
def test_at_most_window_slides_are_open_and_each_is_read_forward(counts, window, seed):
    tiles = TileOrder(counts, seed, window).locate(0, sum(counts)).tolist()
    left = {slide: n for slide, n in enumerate(counts) if n}
    opened, done = set(), 0
    for slide, k in tiles:
        assert k == counts[slide] - left[slide]
        opened.add(slide)
        left[slide] -= 1
        done += not left[slide]
        assert len(opened) - done <= window


def test_seed_and_epoch_change_the_order():
    counts = [20] * 30
    first, again, other = (TileOrder(counts, seed).locate(0, 600) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=1).mean() > 0.9
    assert (first != TileOrder(counts, 0).locate(600, 600)).any(axis=1).mean() > 0.9


@pytest.mark.parametrize(("slides", "tiles"), [(300, 16), (257, 40), (1000, 8)])
def test_batches_mix_slides_as_independent_draws_do(slides, tiles):
    order = TileOrder([tiles] * slides, seed=3)
    batches = order.locate(0, order.epoch_length // 32 * 32)[:, 0].reshape(-1, 32)
    distinct = np.array([len(np.unique(batch)) for batch in batches])
    expected = slides * (1 - (1 - 1 / slides) ** 32)
    assert distinct.mean() >= 0.95 * expected
    assert distinct.min() >= 0.75 * expected  # also at the end of the epoch


def test_mixed_neighbours_are_no_fixed_company():
    """Slides that share a turn meet in a new order each turn: a batch isn't the same donors again and again."""
    batches = TileOrder([50] * 64, seed=0).locate(0, 3200)[:, 0].reshape(-1, 32)
    with_zero = [set(batch) for batch in batches.tolist() if 0 in batch]
    assert len(set.intersection(*with_zero)) == 1 and len(set.union(*with_zero)) == 64


@given(COUNTS, st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_by_slide_reads_one_slide_after_another(counts, seed):
    tiles = TileOrder(counts, seed, by_slide=True).locate(0, sum(counts))
    starts = np.flatnonzero(np.diff(tiles[:, 0], prepend=-1))
    assert len(starts) == np.count_nonzero(counts)
    np.testing.assert_array_equal(tiles[:, 1], np.concatenate([np.arange(counts[s]) for s in tiles[starts, 0]]))


def test_by_slide_shuffles_the_slides():
    slides = TileOrder([1] * 50, 0, by_slide=True).locate(0, 50)[:, 0]
    assert slides.tolist() != sorted(slides) and len(set(slides.tolist())) == 50


def test_all_of_gtex_is_addressed_without_a_table_of_its_tiles():
    order = TileOrder(np.full(25_000, 4_000), 0)
    tiles = order.locate(99_999_990, 20)
    assert len(tiles) == 20 and len(np.unique(tiles[:, 0])) > 15
    assert tiles[:10, 1].min() > 3_900 and tiles[10:, 1].max() == 0


def test_slides_of_few_tiles_come_all_through_the_epoch():
    """None is used up early, which would leave the epoch's end to the largest slides."""
    counts = [10] * 20 + [100] * 20
    small = TileOrder(counts, 0).locate(0, 2200)[:, 0] < 20
    for part in small.reshape(4, 550):
        assert 30 <= part.sum() <= 70  # of 200 in all


@pytest.mark.parametrize("counts", [[], [0, 0]])
def test_nothing_selected_is_refused(counts):
    with pytest.raises(ValueError, match="The selection holds no tile; check split"):
        TileOrder(counts, 0)


@pytest.mark.slow
@pytest.mark.guard
@given(weighted(), st.integers(0, 100))
@settings(deadline=None, max_examples=100)
def test_each_group_passes_through_its_tiles_one_pass_after_another(order, start):
    groups, tiles = np.array(order.groups), order.locate(0, 400)
    for name, weight in order.weights.items():
        own = [tuple(tile) for tile in tiles.tolist() if groups[tile[0]] == name]
        every = sorted((slide, k) for slide, k in every_tile(order.counts) if groups[slide] == name)
        if not weight:
            assert not own
            continue
        for at in range(0, len(own) - len(every) + 1, len(every)):
            assert sorted(own[at : at + len(every)]) == every
        rest = own[len(own) // len(every) * len(every) :]
        assert len(set(rest)) == len(rest)


@pytest.mark.parametrize(
    ("weights", "in_a_block"),
    [
        ({"a": 1, "b": 1, "c": 1}, [20, 20, 20]),
        ({"a": 2, "b": 1, "c": 0}, [40, 20, 0]),
        ({"a": 7, "b": 2, "c": 1}, None),
    ],
)
def test_every_block_holds_the_shares(weights, in_a_block):
    order = WeightedOrder([5, 500, 3, 40], ["a", "b", "c", "a"], weights, seed=1)
    groups = np.array([0, 1, 2, 0])
    for block in range(8):
        shown = np.bincount(groups[order.locate(60 * block, 60)[:, 0]], minlength=3)
        assert shown.tolist() == (in_a_block or [42, 12, 6])
    assert order.shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        np.bincount(groups, weights=order.shares), np.array(list(weights.values())) / sum(weights.values())
    )


def test_groups_come_in_no_fixed_turn():
    order = WeightedOrder([50, 50], ["a", "b"], {"a": 1, "b": 1}, seed=0)
    first, second = (order.locate(at, 60)[:, 0] for at in (0, 60))
    assert 15 < (np.diff(first) != 0).sum() < 45 and (first != second).any()


def test_weights_change_nothing_within_a_group():
    one, other = (WeightedOrder([9, 9, 9], ["a", "b", "b"], {"a": a, "b": 1}, 0, 9) for a in (1, 5))
    own = [tiles[tiles[:, 0] > 0] for tiles in (one.locate(0, 300), other.locate(0, 600))]
    np.testing.assert_array_equal(own[0][:50], own[1][:50])


def test_a_weight_without_a_tile_is_refused():
    with pytest.raises(ValueError, match="b has a weight and no tile; give it weight 0, or slides"):
        WeightedOrder([3, 0], ["a", "b"], {"a": 1, "b": 1}, 0)
