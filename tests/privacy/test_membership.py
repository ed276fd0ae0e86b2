"""Figures of membership: against a reference, on planted and on empty cases."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rnagan.privacy.attacks import density_ratio, nearest_generated
from rnagan.privacy.membership import at_risk, membership


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_auc_and_share_caught_are_those_of_a_reference(random):
    member = np.arange(300) < 120
    scores = np.round(random.normal(0.5 * member, 1), 1)  # ties
    found = membership(scores, member, np.arange(300))
    assert found.auc == pytest.approx(roc_auc_score(member, scores))
    limit = min(score for score in scores if (scores[~member] >= score).mean() <= 0.01)
    assert found.caught == pytest.approx((scores[member] >= limit).mean())
    assert found.low < found.auc < found.high and (found.members, found.others) == (120, 180)
    assert found.chance_low < 0.5 < found.chance_high < found.auc and found.p == 0.001


def test_what_is_planted_is_found_and_what_is_not_there_is_not(random):
    member = np.repeat(np.arange(60) < 30, 8)
    units = np.repeat(np.arange(60), 8)
    planted = membership(random.normal(5.0 * member, 1), member, units)
    assert planted.auc > 0.99 and planted.caught > 0.9 and planted.p == 0.001
    scores = random.normal(size=(40, 60, 1)) + 0.1 * random.normal(size=(40, 60, 8))  # tiles of a donor are alike
    empty = [membership(own.ravel(), member, units, draws=199) for own in scores]
    inside = [own.chance_low <= own.auc <= own.chance_high for own in empty]
    assert np.mean(inside) > 0.85  # of permuted membership, 95% on average
    assert np.mean([own.low <= 0.5 <= own.high for own in empty]) > 0.85
    wrong = [
        membership(own.ravel(), member, np.arange(480), draws=199) for own in scores
    ]  # tiles as if they were donors
    assert np.mean([own.low <= 0.5 <= own.high for own in wrong]) < 0.75


def test_members_who_stand_out_are_named():
    units = np.repeat(list("abcdef"), 2)  # the first four are members
    scores = np.array([0, 0, 0, 2, 3, 3, 2, 4, 1, 1, 5, -1], float)
    assert at_risk(scores, units < "e", units) == ["c", "d"]  # above the mean of f, 2


@pytest.mark.parametrize("member", [np.ones(6, bool), np.zeros(6, bool)])
def test_members_and_others_are_needed(member):
    with pytest.raises(ValueError, match="both members and others"):
        membership(np.arange(6.0), member, np.arange(6))


def test_a_unit_is_a_member_or_not():
    with pytest.raises(ValueError, match="tiles of members and of others"):
        membership(np.arange(4.0), np.array([True, False, True, False]), np.array([0, 0, 1, 2]))


@pytest.fixture
def tissue(random):
    """Features of 4 real tiles of each of 40 people of two tissues; the first ten of each tissue are members."""
    person = np.repeat(np.arange(40), 4)
    points = random.normal(size=(40, 6))[person] + 0.7 * random.normal(size=(160, 6)) + 8 * (person >= 20)[:, None]
    return points, (person >= 20).astype(int), person, person % 20 < 10


def test_tiles_that_lie_on_members_betray_them_and_others_do_not(random, tissue):
    points, groups, person, member = tissue
    near = points.copy()
    for group in (0, 1):  # everybody's tiles look like some member's
        own = groups == group
        near[own] = points[own & member][random.integers(0, 40, own.sum())]
    near += 0.05 * random.normal(size=near.shape)
    free, reference = (8 * groups[:, None] + 1.2 * random.normal(size=points.shape) for _ in range(2))
    for made, low, of_density, high in ((near, 0.9, 0.7, 1), (free, 0.35, 0.35, 0.65)):
        by_nearest = membership(nearest_generated(points, made, groups, person), member, person)
        by_density = membership(density_ratio(points, made, reference, groups), member, person)
        assert low <= by_nearest.auc <= high and of_density <= by_density.auc <= high


def test_a_tissue_of_one_person_says_nothing(tissue):
    points, groups, person, _ = tissue
    assert not nearest_generated(points[:4], points[:4], groups[:4], person[:4]).any()
