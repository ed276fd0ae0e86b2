"""Paired tests, Holm's correction and sample sizes, against closed forms, published values and a wrong variant."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rnagan.apps.reader_scores import article_scores, by_reader
from rnagan.apps.reader_tests import compare_sources, holm, paired, power_of, readers_needed

LUNG_RNAGAN, LUNG_GAN = np.array([3, 1, 1.2, 1.2, 1.6, 2.4]), np.array([1, 0.6, 1.2, 0.6, 0.6, 2])


def test_paired_t_is_scipys_on_both_sides_and_one() -> None:
    found = paired("lung", "RNA-GAN", "GAN", LUNG_RNAGAN, LUNG_GAN)
    both, one = stats.ttest_rel(LUNG_RNAGAN, LUNG_GAN), stats.ttest_rel(LUNG_RNAGAN, LUNG_GAN, alternative="greater")
    assert (found.p, found.p_first_better) == pytest.approx((both.pvalue, one.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(both.confidence_interval(0.95)))
    assert found.p == pytest.approx(0.050, abs=5e-4) and found.p_first_better == pytest.approx(0.025, abs=5e-4)
    unpaired = stats.ttest_ind(LUNG_RNAGAN, LUNG_GAN).pvalue  # the wrong test, of readers as if they were others
    assert abs(unpaired - found.p) > 0.03


def test_a_worse_first_source_has_p_above_a_half_on_one_side() -> None:
    found = paired("lung", "GAN", "RNA-GAN", LUNG_GAN, LUNG_RNAGAN)
    assert found.p_first_better == pytest.approx(0.975, abs=5e-4) and found.difference < 0


def test_readers_without_both_sources_are_left_out() -> None:
    a, b = np.array([1.0, 2, np.nan, 4]), np.array([0.5, 1, 3, np.nan])
    assert paired("", "a", "b", a, b).readers == 2
    assert paired("", "a", "b", a[2:], b[2:]).p is None
    same = paired("", "a", "b", a[:2], a[:2] - 1)
    assert same.p is None and same.difference == 1


def test_holm_is_that_of_the_published_example() -> None:
    # p 0.01, 0.04, 0.03, 0.005: 0.005·4, 0.01·3, 0.03·2, then 0.04·1 raised to the one before
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).max() == 1.0
    bonferroni = np.minimum(4 * np.array([0.01, 0.04, 0.03, 0.005]), 1)
    assert not np.allclose(bonferroni, [0.03, 0.06, 0.06, 0.02])


def test_sources_are_compared_within_tissues() -> None:
    tests = compare_sources(by_reader(article_scores(), "quality"), ["real", "RNA-GAN", "GAN"])
    assert [(test.tissue, test.first, test.second) for test in tests[:3]] == [
        ("lung", "real", "RNA-GAN"),
        ("lung", "real", "GAN"),
        ("lung", "RNA-GAN", "GAN"),
    ]
    assert len(tests) == 6 and all(test.p_holm >= test.p for test in tests)


@pytest.mark.parametrize(
    ("effect", "sides", "needed"),
    [(0.5, 2, 34), (0.5, 1, 27), (0.8, 2, 15), (0.2, 2, 199)],  # G*Power 3.1, paired t, level 0.05, power 0.8
)
def test_sample_size_is_that_of_published_tables(effect: float, sides: int, needed: int) -> None:
    assert readers_needed(effect, 1.0, 0.05, 0.8, sides) == needed
    assert power_of(needed - 1, effect, 1.0, 0.05, sides) < 0.8 <= power_of(needed, effect, 1.0, 0.05, sides)


def test_power_is_the_share_of_simulated_studies_that_find_the_difference() -> None:
    random = np.random.default_rng(0)
    drawn = random.normal(0.6, 1.0, (20_000, 10))
    found = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert power_of(10, 0.6, 1.0, 0.05) == pytest.approx(found.mean(), abs=0.01)
    normal = stats.norm.sf(stats.norm.ppf(0.975) - 0.6 * np.sqrt(10))  # the wrong formula, as if the SD were known
    assert abs(normal - found.mean()) > 0.04


@pytest.mark.parametrize("settings", [(0, 1, 0.05, 0.8), (1, 0, 0.05, 0.8), (1, 1, 1.5, 0.8), (1e-6, 1, 0.05, 0.8)])
def test_an_impossible_plan_costs_one_sentence(settings: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        readers_needed(*settings)


def test_a_tile_that_was_shown_twice_weighs_once() -> None:
    rows = [("a", "real", "lung", "1", 1, 5.0), ("a", "real", "lung", "1", 2, 1.0), ("a", "real", "lung", "2", 1, 3.0)]
    table = pd.DataFrame(rows, columns=["reader", "source", "tissue", "tile", "showing", "quality"])
    assert by_reader(table, "quality")["lung", "real"].tolist() == [4.0]
