"""A linear model and other spots' real tiles, beside which a model is shown on real pairs."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from rnagan.evaluation.spatial_baselines import (
    PENALTIES,
    centred,
    gene_agreement,
    nearest_in_expression,
    own_places,
    ridge,
)


@pytest.fixture
def spots():
    """Conditions of 150 training and 40 held-out spots of three and one section; the first outcome follows the first
    unit, on a level of its own in each section, the second is noise."""
    random = np.random.default_rng(0)
    c = random.standard_normal((190, 12))
    sections = np.repeat(["a", "b", "c", "d"], [50, 50, 50, 40])
    level = np.repeat([0.0, 9.0, -4.0, 5.0], [50, 50, 50, 40])
    y = np.stack([2 * c[:, 0] + level, np.zeros(190)], axis=1) + random.standard_normal((190, 2))
    return c, y, sections


def test_ridge_is_that_of_a_reference_at_one_of_its_strengths(spots):
    c, y, sections = spots
    found = ridge(c[:150], y[:150], sections[:150], c[150:])
    y_centred = centred(y[:150], sections[:150])
    references = np.array([Ridge(alpha).fit(c[:150], y_centred).predict(c[150:]) for alpha in PENALTIES])
    apart = np.abs(references - found).max(axis=1)
    assert (apart.min(axis=0) < 1e-8).all()
    assert apart[:, 0].argmin() < apart[:, 1].argmin()  # noise is shrunk more
    assert np.corrcoef(found[:, 0], y[150:, 0])[0, 1] > 0.85
    not_centred = Ridge(PENALTIES[0]).fit(c[:150], y[:150]).predict(c[150:])
    assert not np.allclose(not_centred[:, 0], found[:, 0], atol=0.1)  # sections' levels have no part


def test_ridge_chooses_its_strength_without_the_held_out_spots(spots):
    c, y, sections = spots
    whole = ridge(c[:150], y[:150], sections[:150], c[150:])
    assert np.allclose(whole[:5], ridge(c[:150], y[:150], sections[:150], c[150:155]))


def test_ridge_on_one_section(spots):
    c, y, _ = spots
    assert np.corrcoef(ridge(c[:50], y[:50], np.zeros(50), c[150:])[:, 0], y[150:, 0])[0, 1] > 0.8


def test_places():
    random = np.random.default_rng(1)
    real = random.standard_normal((60, 5))
    assert own_places(real, real).max() == 0
    assert own_places(-real, real).mean() > 0.8
    assert own_places(random.standard_normal((60, 5)), real).mean() == pytest.approx(0.5, abs=0.12)
    assert (own_places(np.zeros((60, 5)), np.ones((60, 5))) == 0.5).all()  # ties lie halfway


def test_places_are_the_same_for_a_prediction_that_is_shrunk():
    random = np.random.default_rng(4)
    real = random.standard_normal((60, 5))
    found = real + random.standard_normal((60, 5))
    assert (own_places(0.01 * found, real) == own_places(found, real)).all()
    assert own_places(found, real).mean() < 0.25


def test_the_nearest_in_expression():
    train = np.random.default_rng(2).standard_normal((30, 4))
    assert nearest_in_expression(train, train[[4, 17]] + 1e-3).tolist() == [4, 17]


def test_genes_agree_in_signs_and_size():
    random = np.random.default_rng(3)
    measure = random.standard_normal(120)
    loading = random.normal(0, 1, 40)
    expression = measure[:, None] * loading + random.standard_normal((120, 40))
    expression[:, 7] = 2.0  # a gene that doesn't vary has no part
    same = gene_agreement(expression, measure, 5 * measure + 1)
    assert (same.r, same.signs, same.slope, same.genes) == (pytest.approx(1), 1, pytest.approx(1), 39)
    opposed = gene_agreement(expression, measure, -measure)
    assert (opposed.r, opposed.signs) == (pytest.approx(-1), 0)
    noise = gene_agreement(expression, measure, measure + 3 * random.standard_normal(120))
    assert noise.r > 0.7 and noise.slope < 0.7
    assert np.isnan(gene_agreement(expression, measure, np.ones(120)).r)
