"""What stands beside the latent: raw Z scores are by hand, and told from what the encoder sees."""

import dataclasses
from pathlib import Path

import numpy as np

from rnagan.evaluation.reconstruction import fit_pca
from rnagan.evaluation.tissue_spaces import distances, raw_z_scores, spaces_of
from rnagan.expression.h5ad import read_expression
from rnagan.expression.transform import ExpressionTransform
from rnagan.models.trained_vae import load_vae


def test_a_model_on_ranks_is_held_against_its_input_and_raw_z_scores(toy_vae: Path, toy_profiles: Path) -> None:
    by_zscore, data = load_vae(toy_vae / "model"), read_expression(toy_profiles / "profiles.h5ad")
    train, test = data.split("train"), data.split("test")
    ranks = ExpressionTransform.fit(train, data.genes, data.units, "log1p", "normal_scores")
    by_rank = dataclasses.replace(by_zscore, transform=ranks)
    logged = [np.log1p(x.astype(np.float64)) for x in (train, test)]
    raw = raw_z_scores(by_rank, train)(test)
    np.testing.assert_allclose(raw, (logged[1] - logged[0].mean(axis=0)) / logged[0].std(axis=0), atol=1e-5)
    z, latents = ranks.apply(test, data.genes, data.units), by_zscore.encode(test, data.genes, data.units).latents
    pca = fit_pca(ranks.apply(train, data.genes, data.units), 3)
    spaces = spaces_of(by_rank, pca, z, latents, raw)
    assert list(spaces) == ["vae", "pca", "input", "z_scores"] and spaces["pca"].shape == (len(test), 3)
    np.testing.assert_array_equal(spaces["input"], z)
    np.testing.assert_array_equal(spaces["z_scores"], raw)
    assert not np.allclose(z, raw, atol=0.1)
    assert list(spaces_of(by_rank, pca, z, latents, None)) == ["vae", "pca", "input"]  # converted from other units
    assert list(spaces_of(by_zscore, pca, raw, latents, raw)) == ["vae", "pca", "z_scores"]
    assert distances(by_rank, spaces) == dict.fromkeys(spaces, "euclidean") | {"vae": "precision_weighted"}
