"""The oracles are loops by hand, and a cohort of normal numbers whose likelihood is known."""

import numpy as np
import pytest

from rnagan.evaluation.retrieval import distances, fit_reading, places, retrieval

UNITS, VISIBLE = 6, 2


def cohort(donors: int, seed: int, noise: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Conditions and what is read of them: two directions of the six are seen, smeared over all readings."""
    fixed, draw = np.random.default_rng(5), np.random.default_rng(seed)
    seen, out = fixed.normal(size=(UNITS, VISIBLE)), fixed.normal(size=(VISIBLE, UNITS))
    c = draw.normal(size=(donors, UNITS))
    tiles = c @ seen + noise * draw.normal(size=(donors, VISIBLE))
    return c, 3 + tiles @ out + 0.1 * draw.normal(size=(donors, UNITS))


def test_places_are_counted_within_groups_and_ties_are_halfway() -> None:
    distance = np.array([[3.0, 1.0, 2.0, 2.0, 0.5], [1.0, 1.0, 1.0, 1.0, 1.0], [9.0, 2.0, 5.0, 7.0, 1.0]])
    np.testing.assert_allclose(
        places(distance, np.array([0, 1, 2])),
        [[1, 0.25, 0.625, 0.625, 0], [0.5] * 5, [1, 0.25, 0.5, 0.75, 0]],
    )
    groups = np.array(["a", "a", "b", "a", "b"])
    within = places(distance, np.array([0, 1, 2]), groups)
    np.testing.assert_allclose(within[0], [1, 0, np.nan, 0.5, np.nan])
    assert np.isnan(within[2]).all()  # two in centre b: not enough to be found among


def test_readings_that_follow_the_condition_find_their_donor() -> None:
    model = fit_reading(*cohort(300, 1))
    c, read = cohort(80, 2)
    found = retrieval(distances(model, read, c), np.arange(80))
    assert found is not None
    assert found["rank"] < 0.05 and found["top1"] > 0.2 and found["top5"] > 0.6 and found["p"] == 1 / 5000
    assert found["rank_low"] <= found["rank"] <= found["rank_high"] and found["donors"] == found["candidates"] == 80
    assert found["chance1"] == pytest.approx(1 / 80) and found["chance5"] == pytest.approx(5 / 80)
    # known wrong: plain distance between reading and condition, where every unit counts alike
    plain = np.square(read[:, None] - read.mean(axis=0) - c[None]).sum(axis=2)
    naive = retrieval(plain, np.arange(80))
    assert naive is not None and naive["rank"] > 3 * found["rank"] and naive["top1"] < found["top1"] / 2
    # as good as the likelihood with the true numbers
    fixed = np.random.default_rng(5)
    seen, out = fixed.normal(size=(UNITS, VISIBLE)), fixed.normal(size=(VISIBLE, UNITS))
    precision = np.linalg.inv(0.16 * out.T @ out + 0.01 * np.eye(UNITS))
    off = read[:, None] - 3 - (c @ seen @ out)[None]
    best = retrieval(np.einsum("ijk,kl,ijl->ij", off, precision, off), np.arange(80))
    assert best is not None and best["rank"] <= found["rank"] + 0.005 and found["top1"] > best["top1"] - 0.1


def test_readings_of_others_find_nobody() -> None:
    model = fit_reading(*cohort(300, 1))
    c, read = cohort(80, 2)
    _, strangers = cohort(80, 3)
    found = retrieval(distances(model, strangers, c), np.arange(80))
    assert found is not None and 0.3 < found["rank"] < 0.7 and found["top1"] < 0.1 and found["p"] > 0.01
    mute = retrieval(distances(model, np.repeat(read[:1], 80, axis=0), c), np.arange(80))
    assert mute is not None and mute["rank"] == pytest.approx(0.5, abs=0.02) and mute["p"] > 0.5


def test_a_centres_own_look_finds_nobody_within_the_centre() -> None:
    """What is read tells the centre alone, which the condition knows too: pooled it looks like a find."""
    draw = np.random.default_rng(0)
    centre = np.arange(90) % 3
    read = np.eye(3)[centre] + 0.05 * draw.normal(size=(90, 3))
    c = 2 * np.eye(3)[centre] + draw.normal(size=(90, 3)) * 0.1
    distance = distances(fit_reading(c, read), read + 0.05 * draw.normal(size=read.shape), c)
    pooled, within = retrieval(distance, np.arange(90)), retrieval(distance, np.arange(90), centre)
    assert pooled is not None and pooled["rank"] < 0.25 and pooled["p"] < 0.001
    assert within is not None and within["candidates"] == 30 and 0.35 < within["rank"] < 0.65 and within["p"] > 0.01


def test_queries_may_be_fewer_than_candidates_and_too_few_say_nothing() -> None:
    c, read = cohort(40, 2)
    distance = distances(fit_reading(*cohort(300, 1)), read[::4], c)
    found = retrieval(distance, np.arange(40)[::4])
    assert found is not None and (found["donors"], found["candidates"]) == (10, 40) and len(found["places"]) == 10
    alone = distance[:, :2]
    assert retrieval(alone, np.array([0, 1] * 5)) is None


def test_few_validation_donors_are_shrunk_not_believed() -> None:
    """Nine donors for six units: still finite, and better than chance."""
    c, read = cohort(80, 2)
    found = retrieval(distances(fit_reading(*cohort(9, 1)), read, c), np.arange(80))
    assert found is not None and found["rank"] < 0.35
    flat = fit_reading(c, np.zeros_like(read))
    assert np.isfinite(distances(flat, read, c)).all()
