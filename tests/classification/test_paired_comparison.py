"""Paired tests against closed forms and full enumeration, and the known-wrong ones beside them."""

import itertools

import numpy as np
import pytest
from scipy import stats

from rnagan.classification.paired_comparison import corrected_t_test, donor_permutation_test

DIFFERENCES = np.array([0.08, 0.11, 0.02, 0.12, 0.09])


def test_corrected_t_test_is_nadeau_and_bengios_formula() -> None:
    found = corrected_t_test(DIFFERENCES, 0.25)
    mean = sum(DIFFERENCES) / 5
    variance = sum((d - mean) ** 2 for d in DIFFERENCES) / 4
    t = mean / ((1 / 5 + 1 / 4) * variance) ** 0.5
    # p by the integral of Student's density, not by scipy's own t
    x = np.linspace(abs(t), 4000, 4_000_001)
    density = (1 + x**2 / 4) ** (-5 / 2) * 3 / 8
    assert found.t == pytest.approx(t, rel=1e-12) and found.degrees == 4
    assert found.p == pytest.approx(2 * np.trapezoid(density, x), rel=1e-4)


def test_without_the_correction_it_is_the_plain_test_which_finds_too_much() -> None:
    plain = stats.ttest_1samp(DIFFERENCES, 0)
    assert corrected_t_test(DIFFERENCES, 0.0).p == pytest.approx(plain.pvalue, rel=1e-9)
    assert corrected_t_test(DIFFERENCES, 0.25).p > 2 * plain.pvalue


def test_equal_differences_have_no_t() -> None:
    assert corrected_t_test(np.full(5, 0.1), 0.25)[1:] == (None, None, 4)


def enumerated(first: np.ndarray, second: np.ndarray, donors: np.ndarray) -> float:
    """Share of all swaps of whole donors that differ by at least as much."""
    names = sorted(set(donors))
    observed = abs(second.sum() - first.sum())
    hits = 0
    for swap in itertools.product([1, -1], repeat=len(names)):
        sign = np.array([swap[names.index(donor)] for donor in donors])
        hits += abs((sign * (second.astype(int) - first)).sum()) >= observed - 1e-9
    return hits / 2 ** len(names)


def test_permutation_swaps_whole_donors() -> None:
    draw = np.random.default_rng(0)
    donors = np.repeat([f"D{k}" for k in range(7)], [1, 3, 4, 2, 5, 3, 2])
    first, second = draw.random(20) < 0.5, draw.random(20) < 0.8
    found = donor_permutation_test(first, second, donors, seed=0)
    assert found.difference == pytest.approx(second.mean() - first.mean()) and found.donors == 7
    assert found.p == pytest.approx(enumerated(first, second, donors))
    opposite = donor_permutation_test(second, first, donors, seed=0)
    assert opposite.p == pytest.approx(found.p) and opposite.difference == pytest.approx(-found.difference)


def test_tiles_of_one_donor_are_not_independent() -> None:
    """One donor whose many tiles all change proves nothing; by tile it would."""
    first, second, donors = (
        np.zeros(60, bool),
        np.repeat([True, False], 30),
        np.repeat(["a", *"bcdefghijk"], [30] + [3] * 10),
    )
    assert donor_permutation_test(first, second, donors, seed=0).p == 1
    by_tile = donor_permutation_test(first, second, np.arange(60), seed=0)
    assert by_tile.p < 0.001  # the known-wrong way


def test_drawn_permutations_are_those_of_their_seed() -> None:
    draw = np.random.default_rng(1)
    first, second, donors = draw.random(90) < 0.5, draw.random(90) < 0.6, np.arange(90) // 3
    found = [donor_permutation_test(first, second, donors, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] and found[0].p == pytest.approx(found[2].p, abs=0.03)
    assert donor_permutation_test(first[:3], second[:3], donors[:3], 0).p == 1  # one donor
