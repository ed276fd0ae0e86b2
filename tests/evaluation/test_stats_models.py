"""Statistics of covariates against SciPy, scikit-learn and closed forms; wrong ways to do it are shown to fail."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneGroupOut, LeaveOneOut, cross_val_predict

from rnagan.evaluation.stats import adjusted_r2, beyond, design, enough, eta_squared, left_out_r2, partition, pearson


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def ones(n: int) -> np.ndarray:
    return np.ones((1, n))


def test_a_design_has_a_column_for_each_number_and_each_category_but_one() -> None:
    table = pd.DataFrame({"age": [1.0, 2, 3, 6], "site": list("bacb"), "same": 1.0})
    z = design(table)
    assert z.shape == (4, 3) and z.mean(axis=0) == pytest.approx(0) and z.std(axis=0) == pytest.approx(1)
    assert z[:, 0] == pytest.approx(stats.zscore([1, 2, 3, 6])) and z[0, 1] == z[3, 1] > z[1, 1] == z[2, 1]
    assert design(table[["same"]]).shape == (4, 0)
    assert enough(8, 3) and not enough(7, 3)


def test_eta_squared_is_that_of_the_analysis_of_variance_less_chance() -> None:
    groups = np.array(list("aaabbbbcccccc"))
    y = normal(0, 13) + (groups == "b")
    f, oracle = stats.f_oneway(*(y[groups == name] for name in "abc"))
    eta = f * 2 / (f * 2 + 10)
    parts, p = eta_squared(groups, y, draws=4999)
    assert parts.value == pytest.approx(1 - (1 - eta) * 12 / 10) and parts.low < parts.value < parts.high
    assert 0.01 < oracle < 0.9 and p == pytest.approx(oracle, abs=0.04)


def test_without_a_relation_eta_squared_is_around_0_and_p_uniform() -> None:
    """The known-wrong figure, plain η², is never 0 or less."""
    found = [eta_squared(np.arange(48) % 4, normal(seed, 48), seed, 199) for seed in range(120)]
    assert np.mean([parts.low <= 0 <= parts.high for parts, _ in found]) > 0.93
    assert abs(np.mean([parts.value for parts, _ in found])) < 0.02
    assert stats.kstest([p for _, p in found], "uniform").pvalue > 0.01
    plain = [1 - (1 - parts.value) * 44 / 47 for parts, _ in found]
    assert np.mean(plain) > 0.05 and min(plain) > 0


def planted(seed: int, own: float, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Generated and real follow a covariate, and beside it, by `own`, a morphology of their own."""
    z, shared, noise_x, noise_y = normal(seed, 4, n)
    return z + own * shared + 0.5 * noise_x, z + own * shared + 0.5 * noise_y, z[:, None]


def test_partial_correlation_is_the_closed_form_of_three_correlations() -> None:
    x, y, z = planted(0, 0.7)
    xy, xz, yz = pearson(x, y), pearson(x, z[:, 0]), pearson(y, z[:, 0])
    parts = beyond(x, y, z, draws=199)
    assert parts.r.value == pytest.approx(xy)
    assert parts.partial.value == pytest.approx((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)), abs=1e-9)
    slope = [stats.linregress(z[:, 0], v).slope for v in (x, y)]
    explained = 1 - 79 / 78 * (1 - slope[0] * slope[1] * np.var(z) / np.cov(x, y, bias=True)[0, 1])
    assert parts.along.value == pytest.approx(explained, abs=1e-6)
    # Known to be wrong: regressing the covariates out of one side alone.
    naive = pearson(x - slope[0] * z[:, 0], y)
    assert naive < parts.partial.value - 0.1


def test_several_covariates_are_as_the_inverse_of_the_correlation_matrix_says() -> None:
    z = normal(1, 60, 3)
    x, y = z @ [1, 0.5, 0] + normal(2, 60), z @ [0, 0.5, 1] + normal(3, 60)
    precision = np.linalg.inv(np.corrcoef(np.column_stack([x, y, z]).T))
    oracle = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    assert beyond(x, y, z, draws=99).partial.value == pytest.approx(oracle, abs=1e-8)


def test_a_planted_confounder_takes_all_of_the_agreement_and_p_is_uniform_then() -> None:
    found = [beyond(*planted(seed, 0.0), seed, 199) for seed in range(120)]
    assert min(parts.r.low for parts in found) > 0.5
    assert np.mean([parts.partial.low <= 0 <= parts.partial.high for parts in found]) > 0.89
    assert np.mean([parts.along.low <= 1 <= parts.along.high for parts in found]) > 0.85
    assert stats.kstest([parts.p for parts in found], "uniform").pvalue > 0.01


def test_what_isnt_of_the_covariates_is_left() -> None:
    x, y, _ = planted(1, 2.0)
    parts = beyond(x, y, normal(9, 80, 4))
    assert parts.partial.low > 0.8 and parts.p == 1 / 2000 and parts.along.low < 0 < parts.along.high < 0.2
    both = beyond(*planted(2, 1.0, 300))
    assert both.partial.low > 0.7 and both.along.low < 0.5 < both.along.high
    assert beyond(x, y, x[:, None]).partial == (0, 0, 0) and beyond(x, y, x[:, None]).p == 1


def test_pooled_tissues_make_an_agreement_of_none() -> None:
    """Simpson's case: within each tissue generated and real are at odds, over all they agree, and even more so given a
    covariate."""
    parts = []
    for tissue in range(3):
        x, noise, z = normal(20 + tissue, 3, 60)
        parts.append((x + 5 * tissue, -0.8 * x + 0.5 * noise + 5 * tissue, z[:, None]))
    pooled = beyond(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    assert pooled.partial.low > 0.7
    for part in parts:
        assert beyond(*part).partial.high < -0.5


def test_r2_of_donors_left_out_is_that_of_leaving_each_out() -> None:
    x = normal(4, 30, 4)
    y = x[:, 0] + normal(5, 30)
    predicted = cross_val_predict(LinearRegression(), x, y, cv=LeaveOneOut())
    by_mean = (y.sum() - y) / 29
    oracle = 1 - ((y - predicted) ** 2).sum() / ((y - by_mean) ** 2).sum()
    assert left_out_r2(x, y, ones(30))[0] == pytest.approx(oracle, abs=1e-7)
    assert LinearRegression().fit(x, y).score(x, y) > oracle + 0.1  # the known-wrong one counts chance


def test_all_copies_of_a_donor_are_left_out_of_a_resample() -> None:
    x, y = normal(6, 20, 3), normal(7, 20)
    weights = np.random.default_rng(8).multinomial(20, np.full(20, 1 / 20)).astype(float)
    rows = np.repeat(np.arange(20), weights.astype(int))
    predicted = cross_val_predict(LinearRegression(), x[rows], y[rows], cv=LeaveOneGroupOut(), groups=rows)
    by_mean = np.array([y[rows][rows != row].mean() for row in rows])
    oracle = 1 - ((y[rows] - predicted) ** 2).sum() / ((y[rows] - by_mean) ** 2).sum()
    assert left_out_r2(x, y, weights[None])[0] == pytest.approx(oracle, abs=1e-6)
    naive = cross_val_predict(LinearRegression(), x[rows], y[rows], cv=LeaveOneOut())
    assert 1 - ((y[rows] - naive) ** 2).sum() / ((y[rows] - by_mean) ** 2).sum() > oracle + 0.05


def test_a_donor_alone_in_its_centre_is_predicted_by_the_mean() -> None:
    y = normal(10, 12)
    alone = np.eye(12)[:, :1]
    assert left_out_r2(alone, y, ones(12))[0] == pytest.approx(left_out_r2(np.empty((12, 0)), y, ones(12))[0], abs=0.2)
    assert np.isfinite(left_out_r2(alone, y, ones(12))).all()


def test_adjusted_r2_is_0_on_average_where_there_is_nothing() -> None:
    x, y = normal(11, 25, 6), normal(12, 25)
    r2 = LinearRegression().fit(x, y).score(x, y)
    assert adjusted_r2(x, y, ones(25))[0] == pytest.approx(1 - (1 - r2) * 24 / 18, abs=1e-7)
    many = [adjusted_r2(normal(seed, 25, 6), normal(1000 + seed, 25), ones(25))[0] for seed in range(300)]
    assert abs(np.mean(many)) < 0.03


def test_variance_goes_to_the_part_that_it_is_of() -> None:
    z, p = normal(13, 800, 2), normal(14, 800, 3)
    y = z[:, 0] + p[:, 0] + normal(15, 800)
    parts, how = partition(y, {"covariates": z, "programmes": p}, draws=99)
    assert how == "left out" and set(parts) == {
        "covariates",
        "programmes",
        "both",
        "covariates only",
        "programmes only",
        "shared",
    }
    for part in ("covariates only", "programmes only"):
        assert parts[part].value == pytest.approx(1 / 3, abs=0.08) and parts[part].low > 0.2
    assert parts["both"].value == pytest.approx(2 / 3, abs=0.05) and abs(parts["shared"].value) < 0.05
    z, noise = z[:200], normal(17, 200, 2)
    parts, _ = partition(z[:, 0] + 0.5 * normal(16, 200), {"covariates": z, "programmes": z + 0.2 * noise})
    assert parts["shared"].low > 0.6 and parts["programmes only"].low <= 0.01


@pytest.mark.parametrize("left_out", [True, False])
def test_variance_of_nothing_is_nobodys(left_out: bool) -> None:
    parts = [
        partition(normal(s, 80), {"a": normal(s + 500, 80, 2), "b": normal(s + 900, 80, 3)}, s, 99, left_out)[0]
        for s in range(25)
    ]
    for part in ("a", "b", "a only", "b only"):
        assert np.mean([each[part].low <= 0 for each in parts]) >= 0.92


def test_few_donors_get_the_adjusted_r2() -> None:
    z, p = normal(18, 40, 4), normal(19, 40, 3)
    assert partition(normal(20, 40), {"z": z, "p": p}, draws=19)[1] == "adjusted"


def test_they_are_functions_of_their_seed() -> None:
    x, y, z = planted(3, 0.5)
    assert beyond(x, y, z, 1, 99) == beyond(x, y, z, 1, 99) != beyond(x, y, z, 2, 99)
    groups = np.arange(80) % 3
    assert eta_squared(groups, x, 1, 99) == eta_squared(groups, x, 1, 99) != eta_squared(groups, x, 2, 99)
