from pathlib import Path

import numpy as np
import pytest

from rnagan.expression.imputation import GeneImputer

GENES, COMPONENTS = 60, 3


def profiles(count: int, seed: int, noise: float = 0.3) -> np.ndarray:
    """Z scores of three hidden programmes."""
    loadings = np.random.default_rng(0).normal(size=(COMPONENTS, GENES))
    draw = np.random.default_rng(seed)
    return (draw.normal(size=(count, COMPONENTS)) @ loadings + noise * draw.normal(size=(count, GENES))).astype("f4")


@pytest.fixture(scope="module")
def imputer() -> GeneImputer:
    return GeneImputer.fit(profiles(200, 1), profiles(50, 2))


def test_components_are_found_and_noise_is_estimated(imputer: GeneImputer) -> None:
    assert imputer.loadings.shape == (GENES, 4)  # of 1, 2, 4, 8 …: three are needed
    assert imputer.noise == pytest.approx(0.09, rel=0.1)


def test_expectation_equals_the_conditional_normal(imputer: GeneImputer) -> None:
    """Oracle: E[x_m | x_o] = Σ_mo Σ_oo⁻¹ x_o of the covariance written out."""
    z, measured = profiles(4, 3), np.random.default_rng(4).random((4, GENES)) > 0.4
    covariance = imputer.loadings.astype(float) @ imputer.loadings.T + imputer.noise * np.eye(GENES)
    filled = imputer.fill(z, measured)
    for row, known, got in zip(z, measured, filled, strict=True):
        expected = covariance[np.ix_(~known, known)] @ np.linalg.solve(covariance[np.ix_(known, known)], row[known])
        np.testing.assert_allclose(got[~known], expected, atol=1e-4)
        np.testing.assert_array_equal(got[known], row[known])
        wrong = covariance[np.ix_(~known, known)] @ row[known]  # known wrong: without the inverse
        assert np.abs(wrong - expected).max() > 1


def test_hidden_genes_come_much_nearer_than_their_mean(imputer: GeneImputer) -> None:
    z, measured = profiles(100, 5), np.random.default_rng(6).random((100, GENES)) > 0.4
    error = np.sqrt(np.square(imputer.fill(z, measured) - z)[~measured].mean())
    assert error < 0.4 < np.sqrt(np.square(z[~measured]).mean())


def test_profiles_do_not_depend_on_those_beside_them(imputer: GeneImputer) -> None:
    z, measured = profiles(6, 7), np.random.default_rng(8).random((6, GENES)) > 0.3
    together = imputer.fill(z, measured)
    for k in range(6):
        np.testing.assert_allclose(imputer.fill(z[k : k + 1], measured[k : k + 1])[0], together[k], atol=1e-5)


def test_ends_of_the_range(imputer: GeneImputer) -> None:
    z = profiles(2, 9)
    np.testing.assert_array_equal(imputer.fill(z, np.ones_like(z, bool)), z)
    np.testing.assert_array_equal(imputer.fill(z, np.zeros_like(z, bool)), 0)
    mean_alone = GeneImputer.fit(profiles(1, 1), profiles(5, 2))
    np.testing.assert_array_equal(mean_alone.fill(z, np.zeros_like(z, bool)), 0)
    assert GeneImputer.fit(profiles(20, 1), profiles(5, 2)[:0]).loadings.shape == (GENES, 0)


def test_round_trip(imputer: GeneImputer, tmp_path: Path) -> None:
    imputer.save(tmp_path / "imputer.safetensors")
    again = GeneImputer.load(tmp_path / "imputer.safetensors")
    np.testing.assert_array_equal(again.loadings, imputer.loadings)
    assert again.noise == imputer.noise
