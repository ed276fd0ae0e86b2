"""Slopes and their expectation against closed forms on synthetic arrays."""

import numpy as np
import pandas as pd
import pytest

from rnagan.evaluation.dose_response import against_truth, expected_slopes, mean_with_interval, slopes
from rnagan.evaluation.morphology import MEASURES

STEPS = np.linspace(-1, 1, 7)


def truth_table(donors: int = 200) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"matrix": draw.uniform(-1, 1, donors), "other": draw.uniform(-1, 1, donors)})
    return table.assign(
        nuclear_density=3000 + 1700 * table["other"],
        matrix_colour=0.34 + 0.2 * table["matrix"],
        air_fraction=np.nan,
        site_stain=draw.choice([0.26, 0.54], donors),
    )


def test_slopes_are_those_of_polyfit_and_points_may_be_left_out() -> None:
    draw = np.random.default_rng(1)
    values = draw.normal(size=(5, 7)) + np.outer([1, 2, 3, -1, 0], STEPS)
    np.testing.assert_allclose(slopes(STEPS, values), np.polyfit(STEPS, values.T, 1)[0])
    inside = np.abs(STEPS) < np.array([2, 0.7, 0.4, 2, 0.1])[:, None]
    kept = slopes(STEPS, values, inside)
    for row in range(4):
        expected = np.polyfit(STEPS[inside[row]], values[row, inside[row]], 1)[0]
        assert kept[row] == pytest.approx(expected)
    assert np.isnan(kept[4])  # one point has no slope


def test_expectation_is_exact_and_zero_for_what_the_programme_does_not_make() -> None:
    found = expected_slopes(truth_table(), "matrix")
    assert found == {"nuclear_density": 0.0, "matrix_colour": pytest.approx(0.2), "site_stain": 0.0}
    assert expected_slopes(truth_table(), "other")["nuclear_density"] == pytest.approx(1700)


def test_a_faithful_model_has_ratio_one_though_it_saturates_beyond_what_it_was_trained_on() -> None:
    """Donors near the end of the range can't move on: those steps don't count, or the slope would be too small."""
    truth, draw = truth_table(), np.random.default_rng(2)
    own = truth["matrix"].to_numpy()[:60]
    at = np.clip(own[:, None] + STEPS, -1, 1)
    values = {name: draw.normal(size=at.shape) * 1e-3 for name in MEASURES}
    values["matrix_colour"] += 0.34 + 0.2 * at
    found = against_truth(STEPS, values, truth, own, "matrix")
    own = found["matrix_colour"]
    assert own["ratio"] == pytest.approx(1, abs=0.02) and own["low"] < 0.2 < own["high"] + 1e-3
    assert own["moved"] == pytest.approx(1, abs=0.02)  # in SDs of the measure for one of the programme
    assert found["nuclear_density"]["ratio"] is None and abs(found["nuclear_density"]["moved"]) < 1e-5
    assert "air_fraction" not in found
    # known wrong: all steps alike
    assert slopes(STEPS, values["matrix_colour"]).mean() < 0.85 * 0.2


def test_interval_holds_the_mean_and_few_donors_have_none() -> None:
    values = np.random.default_rng(0).normal([0, 1, 2], size=(100, 3))
    mean, low, high = mean_with_interval(values)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    np.testing.assert_allclose(high - low, 2 * 1.96 * values.std(axis=0) / 10, rtol=0.15)
    assert np.isnan(mean_with_interval(values[:2])[1]).all()
