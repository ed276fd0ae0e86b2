import numpy as np
import pytest

from rnagan.evaluation.stats import reliability


def measured(between: float, within: float, tiles: int, donors: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    donor = np.repeat(np.arange(donors), tiles)
    return between * draw.normal(size=donors)[donor] + within * draw.normal(size=len(donor)), donor


def test_it_is_the_share_of_variance_between_donors() -> None:
    for between, within, tiles in ((1, 1, 4), (0.5, 1, 8), (0, 1, 4)):
        expected = between**2 / (between**2 + within**2 / tiles)
        assert reliability(*measured(between, within, tiles)) == pytest.approx(expected, abs=0.03)


def test_its_root_bounds_the_correlation_with_what_is_true() -> None:
    values, donor = measured(1, 2, 4)
    truth = measured(1, 0, 1)[0]
    means = np.bincount(donor, values) / np.bincount(donor)
    assert np.corrcoef(truth, means)[0, 1] == pytest.approx(np.sqrt(reliability(values, donor)), abs=0.02)
    wrong = 1 - values.var() / means.var()  # not of a mean, but of a tile
    assert abs(wrong - reliability(values, donor)) > 0.3


def test_where_it_is_unknown() -> None:
    assert np.isnan(reliability(np.arange(3.0), np.arange(3)))  # one tile a donor
    assert np.isnan(reliability(np.ones(6), np.repeat([0, 1, 2], 2)))
    assert np.isnan(reliability(np.full(6, np.nan), np.repeat([0, 1, 2], 2)))
    assert reliability(np.array([0, 0, 1, 1, 2.0]), np.array([0, 0, 1, 1, 2])) == pytest.approx(1)
