"""Maps of sections: the nulls keep their structure, p is what it says, and intervals know that neighbours are alike."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest

from rnagan.evaluation.spatial_nulls import (
    ENOUGH_SHIFTS,
    FEWEST_SPOTS,
    Nulls,
    agreement,
    block_weights,
    make_nulls,
    nearest_other,
    pitch_of,
    same_place,
    weighted_pearson,
)
from rnagan.evaluation.stats import interval, p_value

ACROSS, DOWN = 16, 20  # a section is an ellipse in so many spots


def section(pitch=200.0):
    x, y = np.meshgrid(np.arange(ACROSS), np.arange(DOWN), indexing="ij")
    inside = ((x - 7.5) / 8) ** 2 + ((y - 9.5) / 10) ** 2 < 1.15
    return pitch * np.stack([x[inside], y[inside]], axis=1), inside


def smooth(random, inside, width=2.0):
    """A smooth map over the spots inside."""
    field = gaussian_filter(random.standard_normal((ACROSS + 40, DOWN + 40)), width)[20:-20, 20:-20]
    return field[inside] / field[inside].std()


@pytest.fixture(scope="module")
def placed():
    positions, inside = section()
    return positions, inside, make_nulls(positions), block_weights(positions, draws=16)


def test_there_are_seven_turns_and_enough_shifts(placed):
    positions, _, nulls, _ = placed
    shared = (nulls.places >= 0).sum(axis=1)
    assert nulls.turns == 7 and nulls.shifts >= ENOUGH_SHIFTS and shared.min() >= FEWEST_SPOTS
    assert len(np.unique(nulls.places, axis=0)) == len(nulls.places)
    for places in nulls.places[7:]:  # a shift moves all by one vector, of two pitches or more
        there = places >= 0
        vectors = positions[places[there]] - positions[there]
        assert np.ptp(vectors, axis=0).max() < 1e-9 and np.linalg.norm(vectors[0]) >= 2 * 200 - 1e-9


def test_turns_of_a_square_are_those_of_an_array():
    x, y = np.meshgrid(np.arange(7), np.arange(7), indexing="ij")
    positions, values = np.stack([x.ravel(), y.ravel()], axis=1).astype(float), np.arange(49.0)
    nulls = make_nulls(positions)
    found = {tuple(values[places]) for places in nulls.places[:7]}
    array = values.reshape(7, 7)
    turned = [np.rot90(mirrored, k) for mirrored in (array, array.T) for k in range(4)]
    assert found == {tuple(each.ravel()) for each in turned[1:]}


def test_p_of_independent_maps_is_uniform_and_unscaled_r_is_not(placed):
    _, inside, nulls, weights = placed
    random, drawn, unscaled = np.random.default_rng(0), [], []
    there = (nulls.places >= 0).astype(float)
    for _ in range(250):
        real, other = smooth(random, inside, 3.0), smooth(random, inside, 3.0)
        found = agreement(real, other, nulls, weights)
        drawn.append(found.p)
        unscaled.append(p_value(weighted_pearson(there, real, other[nulls.places]) >= found.r))
    assert kstest(drawn, "uniform").pvalue > 0.01
    assert kstest(unscaled, "uniform").pvalue < 0.005  # known wrong: few shared spots give high r by chance


def test_free_permutation_is_no_null(placed):
    """Two smooth maps that have nothing to do with one another would be called alike, far too often."""
    _, inside, nulls, weights = placed
    random = np.random.default_rng(1)
    free, kept = [], []
    for _ in range(60):
        real, other = smooth(random, inside, 3.0), smooth(random, inside, 3.0)
        found = agreement(real, other, nulls, weights)
        shuffled = np.array([random.permutation(other) for _ in range(99)])
        free.append(p_value(weighted_pearson(np.ones((1, len(real))), real, shuffled) >= found.r) <= 0.05)
        kept.append(found.p <= 0.05)
    assert np.mean(free) > 0.25 and np.mean(kept) < 0.15


def test_the_true_map_has_the_least_p_that_the_nulls_allow(placed):
    positions, inside, nulls, weights = placed
    random = np.random.default_rng(2)
    for _ in range(10):
        real = smooth(random, inside)
        found = agreement(real, 3 + 0.5 * (real + 0.7 * random.standard_normal(len(positions))), nulls, weights)
        assert found.p == 1 / (1 + found.nulls) and found.beaten == found.nulls and found.null_high < found.r
        assert found.slope == pytest.approx(0.5, abs=0.1)


def test_a_flat_map_says_nothing(placed):
    positions, inside, nulls, weights = placed
    flat = agreement(smooth(np.random.default_rng(3), inside), np.ones(len(positions)), nulls, weights)
    assert (flat.r, flat.p, flat.beaten) == (0, 1, 0)


def test_without_nulls_p_is_one(placed):
    positions, inside, _, weights = placed
    real = smooth(np.random.default_rng(4), inside)
    found = agreement(real, real, Nulls(np.empty((0, len(positions)), np.intp), 0), weights)
    assert (found.p, found.nulls) == (1, 0)
    few = make_nulls(positions[:20])
    assert few.places.shape == (0, 20) and few.turns == few.shifts == 0


def test_intervals_over_blocks_are_wider_and_hold_the_truth_more_often(placed):
    """Two independent smooth maps have r 0 in truth: intervals over single spots miss it far too often."""
    positions, inside, _, _ = placed
    random, blocks = np.random.default_rng(5), block_weights(positions, draws=400)
    single = random.multinomial(len(positions), np.full(len(positions), 1 / len(positions)), 400).astype(float)
    holds = {"blocks": 0, "single": 0}
    for _ in range(80):
        real, other = smooth(random, inside, 1.0), smooth(random, inside, 1.0)
        for name, weights in (("blocks", blocks), ("single", single)):
            low, high = interval(weighted_pearson(weights, real, other))
            holds[name] += low <= 0 <= high
    assert holds["blocks"] >= 64 and holds["single"] <= 54
    together = blocks[:, 0] == blocks[:, nearest_other(positions)[0]]
    assert together.mean() > 0.6  # a spot and its neighbour are mostly of one block


def test_a_hexagonal_grid_has_shifts_too():
    row, column = np.divmod(np.arange(400), 20)
    positions = np.stack([100 * column + 50 * (row % 2), 86.6 * row], axis=1).astype(float)
    assert pitch_of(positions) == pytest.approx(100, abs=0.1)
    assert make_nulls(positions).shifts >= ENOUGH_SHIFTS


def test_the_same_place_of_a_section_that_lies_elsewhere():
    positions, _ = section(1.0)
    chosen = np.random.default_rng(6).permutation(len(positions))
    other = (positions + np.array([7, -3]))[chosen][: len(positions) - 12]
    place = same_place(positions, other)
    there = place >= 0
    assert there.sum() == len(other)
    assert np.array_equal(other[place[there]] - np.array([7, -3]), positions[there])


def test_spots_on_one_another_are_refused():
    with pytest.raises(ValueError, match="lie on one another"):
        pitch_of(np.zeros((50, 2)))
