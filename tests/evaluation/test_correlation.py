"""Correlation over donors against SciPy's, and a test by permutation that finds what is there and nothing else."""

import numpy as np
import pytest
from scipy import stats

from rnagan.evaluation.stats import correlate, pearson


def draw(seed: int, donors: int, r: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Normal pairs whose true correlation is `r`."""
    random = np.random.default_rng(seed)
    x, noise = random.standard_normal((2, donors))
    return x, r * x + np.sqrt(1 - r**2) * noise


@pytest.mark.parametrize("r", [-0.8, 0.0, 0.5])
def test_r_and_slope_are_those_of_scipy(r: float) -> None:
    x, y = draw(1, 40, r)
    found, oracle = correlate(x, 3 * y + 5), stats.linregress(x, 3 * y + 5)
    assert found.r == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert found.slope == pytest.approx(oracle.slope, abs=1e-12)
    assert found.donors == 40 and found.low <= found.r <= found.high


def test_pearson_takes_many_rows() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 7, 11))
    assert pearson(x, y) == pytest.approx([stats.pearsonr(a, b).statistic for a, b in zip(x, y, strict=True)])


def test_p_agrees_with_scipys_permutation_test() -> None:
    x, y = draw(2, 25, 0.4)
    resampling = stats.PermutationMethod(n_resamples=4999, rng=np.random.default_rng(0))
    oracle = stats.pearsonr(x, y, method=resampling).pvalue
    assert 0.001 < oracle < 0.5 and correlate(x, y).p == pytest.approx(oracle, abs=0.02)


def test_p_is_small_for_a_strong_relation_of_either_sign() -> None:
    x, y = draw(3, 30, 0.9)
    assert correlate(x, y).p == correlate(x, -y).p == 1 / 5000
    assert correlate(x, -y).high < 0


@pytest.mark.parametrize("strata", [None, np.arange(24) % 3])
def test_p_is_uniform_without_a_relation(strata: np.ndarray | None) -> None:
    p = [correlate(*draw(seed, 24), seed, strata, draws=199).p for seed in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = [
        found.low < 0.6 < found.high
        for found in (correlate(*draw(seed, 60, 0.6), seed, draws=400) for seed in range(300))
    ]
    assert 0.89 < np.mean(covered) < 0.98


def test_permutation_stays_within_strata() -> None:
    """A relation that lies between centres alone is not found within them."""
    centre = np.random.default_rng(4).permutation(np.arange(40) % 4)
    assert correlate(centre, centre, strata=centre).p == 1  # each permutation leaves everything as it was
    x, y = (draw(seed, 40)[0] + 3 * centre for seed in (5, 6))
    assert correlate(x, y).p < 0.001 and correlate(x, y, strata=centre).p > 0.05
    x, y = (part + 3 * centre for part in draw(7, 40, 0.9))
    assert correlate(x, y, strata=centre).p < 0.001


def test_pooling_tissues_claims_what_no_tissue_shows() -> None:
    """The known-wrong measure: tissues with different means correlate, however little the profile matters in them."""
    tissues = []
    for seed in (8, 9):
        x, y = draw(seed, 60)
        tissues.append((x, y - stats.linregress(x, y).slope * x))  # nothing of x is left in y
    lung, cortex = tissues
    pooled = correlate(*(np.concatenate([a, b + 6]) for a, b in zip(lung, cortex, strict=True)))
    assert pooled.r > 0.8 and pooled.p < 0.001
    for tissue in tissues:
        within = correlate(*tissue)
        assert abs(within.r) < 1e-12 and within.p > 0.9 and within.low < 0 < within.high


def test_it_is_a_function_of_its_seed() -> None:
    assert correlate(*draw(10, 20), seed=1) == correlate(*draw(10, 20), seed=1) != correlate(*draw(10, 20), seed=2)


def test_no_variation_and_too_few_donors() -> None:
    assert correlate(np.arange(5.0), np.ones(5))[:5] == (0, 0, 0, 0, 1)
    with pytest.raises(ValueError, match=r"^A correlation over 2 donors says nothing; at least 3 are needed\.$"):
        correlate(np.arange(2.0), np.arange(2.0))
