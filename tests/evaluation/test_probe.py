"""What RNA predicts of a covariate: planted ones are predicted, others not, and a class that is common doesn't help."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from rnagan.evaluation.probe import linear_probe


def test_what_rna_knows_is_predicted_for_donors_that_were_left_out() -> None:
    draw = np.random.default_rng(3)
    c = draw.standard_normal((200, 6))
    y, scored = c[:, 0] + draw.standard_normal(200), np.arange(200) % 2 == 0
    result = linear_probe(c, y, scored)
    assert (
        result
        and result["donors"] == 100
        and result["learnt_from"] == 200
        and result["score_low"] < 0.5 < result["score_high"]
    )
    nothing = [linear_probe(draw.standard_normal((40, 20)), y[:40], scored[:40], seed, 199) for seed in range(10)]
    assert np.mean([found["score_low"] <= 0 for found in nothing if found]) >= 0.9
    labels = np.where(c[:, 1] > 0, "male", "female").astype(object)
    found = linear_probe(c, labels, scored)
    assert found and found["what"] == "balanced accuracy" and found["chance"] == 0.5 and found["score_low"] > 0.8
    rare = np.where(np.arange(200) < 180, "a", "b").astype(object)  # calling everybody "a" is right in 90%
    unknown = linear_probe(draw.standard_normal((200, 6)), rare, np.ones(200, bool))
    assert unknown and unknown["score_low"] < 0.5 < 0.75 > unknown["score"]
    assert linear_probe(c[:8], y[:8], scored[:8]) is None and linear_probe(c, np.full(200, "a", object), scored) is None


def test_r2_is_against_the_mean_of_those_learnt_from() -> None:
    """The oracle: scikit-learn's folds by hand. Known to be wrong: fitted and scored on the same donors."""
    draw = np.random.default_rng(4)
    c = draw.standard_normal((60, 15))
    y = 0.5 * c[:, 0] + draw.standard_normal(60)
    errors = np.zeros((2, 60))
    for learn, result in KFold(5, shuffle=True, random_state=7).split(c):
        model = RidgeCV(np.logspace(-2, 5, 15)).fit(c[learn], y[learn])
        errors[:, result] = (y[result] - model.predict(c[result])) ** 2, (y[result] - y[learn].mean()) ** 2
    found = linear_probe(c, y, np.ones(60, bool), seed=7, draws=99)
    assert found and found["score"] == pytest.approx(1 - errors[0].sum() / errors[1].sum())
    assert RidgeCV(np.logspace(-2, 5, 15)).fit(c, y).score(c, y) > found["score"] + 0.1
