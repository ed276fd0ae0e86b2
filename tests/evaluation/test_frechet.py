import numpy as np
import pytest
import scipy.linalg

from rnagan.evaluation.features import make_extractor
from rnagan.evaluation.tile_scores import FeatureStatistics, frechet_distance, frechet_name


def drawn(count: int, width: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return shift + scale * draw.normal(size=(count, width)) @ draw.normal(size=(width, width))


def by_closed_form(x: np.ndarray, y: np.ndarray) -> float:
    """Dowson & Landau 1982 with SciPy's matrix root: another way than eigenvalues of the product."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a)
    middle = scipy.linalg.sqrtm(root @ b @ root).real
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b - 2 * middle))


def test_distance_is_the_closed_form_of_two_gaussians() -> None:
    x, y = drawn(200, 8, 0), drawn(300, 8, 1, shift=0.7, scale=1.3)
    found = frechet_distance(FeatureStatistics.of(x), FeatureStatistics.of(y))
    assert found == pytest.approx(by_closed_form(x, y), rel=1e-9)
    wrong = float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.sum((x.std(0) - y.std(0)) ** 2))  # without covariances
    assert abs(found - wrong) > 0.05 * found
    own = FeatureStatistics.of(x)
    assert frechet_distance(own, own) == pytest.approx(0, abs=1e-6)


def test_in_one_dimension_it_is_the_difference_of_means_and_sds() -> None:
    x, y = drawn(50, 1, 0), drawn(60, 1, 1, shift=2)
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(*map(FeatureStatistics.of, (x, y))) == pytest.approx(expected)


def test_with_fewer_tiles_than_features() -> None:
    """Then the trace of the root is the nuclear norm of one set's deviations against the other's."""
    x, y = drawn(20, 64, 0), drawn(30, 64, 1, shift=0.2)
    a, b = ((each - each.mean(0)) / np.sqrt(len(each) - 1) for each in (x, y))
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.sum(a**2) + np.sum(b**2)
    expected -= 2 * np.linalg.norm(a @ b.T, "nuc")
    # torch-fidelity takes roots of eigenvalues that are 0 but for rounding, hence the tolerance
    assert frechet_distance(*map(FeatureStatistics.of, (x, y))) == pytest.approx(expected, rel=1e-3)


def test_few_tiles_are_biased_which_is_why_the_name_tells_their_count() -> None:
    distances = [
        frechet_distance(*(FeatureStatistics.of(np.random.default_rng(s).normal(size=(n, 32))) for s in (0, 1)))
        for n in (40, 400, 4000)
    ]
    assert distances[0] > 5 * distances[1] > 25 * distances[2]
    assert frechet_name(make_extractor("efficientnet_lite0"), 500, "lung") == "frechet_efficientnet_lite0/lung_500"


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    x = drawn(50, 6, 0, shift=1e4).astype(np.float32)
    whole, parts = FeatureStatistics.of(x), FeatureStatistics.of(x[:1]) + FeatureStatistics.of(x[1:20])
    parts = parts + FeatureStatistics.of(x[20:])
    assert parts.count == 50
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-7, atol=1e-7)
    forgetful = FeatureStatistics.of(x[:20]).scatter + FeatureStatistics.of(x[20:]).scatter  # means apart are spread
    assert np.abs(forgetful - whole.scatter).max() > 0.1


def test_one_tile_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2 tiles, not 1"):
        frechet_distance(FeatureStatistics.of(np.ones((1, 3))), FeatureStatistics.of(np.ones((4, 3))))
