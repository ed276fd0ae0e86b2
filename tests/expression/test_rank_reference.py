from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from rnagan.config.vae import VAEConfig
from rnagan.expression.imputation import GeneImputer
from rnagan.expression.rank_reference import RankFit
from rnagan.expression.transform import ExpressionTransform
from rnagan.models.latent_space import LatentSpace
from rnagan.models.trained_vae import VAEModel
from rnagan.models.vae import BetaVAE

GENES = [f"ENSG{k:011d}" for k in range(120)]


def profiles(n: int, seed: int) -> np.ndarray:
    """TPM (n, genes) of genes at levels of their own, one value of seven at 0."""
    draw = np.random.default_rng(seed)
    levels = np.random.default_rng(0).normal(2, 1.5, len(GENES))
    tpm = np.exp(levels + draw.normal(0, 0.7, (n, len(GENES))))
    return np.where(draw.random(tpm.shape) < 1 / 7, 0, tpm)


@pytest.fixture(scope="module")
def transform() -> ExpressionTransform:
    return ExpressionTransform.fit(profiles(80, 1), GENES, "tpm", "log1p", "normal_scores")


@pytest.fixture(scope="module")
def model(transform: ExpressionTransform) -> VAEModel:
    """Random weights: what goes in decides what comes out."""
    config = VAEConfig(hidden="16", latent=5)
    z = transform.apply(profiles(80, 1), GENES, "tpm")
    torch.manual_seed(0)
    space = LatentSpace.fit(z[:, :5], np.ones(5, np.float32), ["a"] * 80, z[:, :5], np.ones(80, np.float32))
    return VAEModel(config, transform, GeneImputer.fit(z, z), BetaVAE(len(GENES), config), space, {})


def test_scores_are_rankits_less_their_training_mean(transform: ExpressionTransform) -> None:
    def rankits(x: np.ndarray) -> np.ndarray:
        return norm.ppf((np.apply_along_axis(rankdata, 1, x) - 0.5) / x.shape[1])

    train, test = profiles(80, 1), profiles(6, 2)
    expected = rankits(test) - rankits(train).mean(axis=0)
    np.testing.assert_allclose(transform.apply(test, GENES, "tpm"), expected, atol=1e-6)
    zeros = test[0] == 0
    np.testing.assert_allclose(np.ptp(rankits(test)[0, zeros]), 0)  # ties share the average of their ranks
    np.testing.assert_allclose(transform.spread, rankits(train).std(axis=0))
    assert (transform.sd == 1).all()  # not divided: genes that hardly vary stay small


@pytest.mark.filterwarnings("ignore:.* profiles are unlike the training profiles")
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_increasing_distortion_of_a_profile_gives_the_same_latent(model: VAEModel, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 400), min_size=len(GENES), max_size=len(GENES)))
    levels, place = np.unique(values, return_inverse=True)
    steps = data.draw(st.lists(st.floats(1e-3, 1e6), min_size=len(levels), max_size=len(levels)))
    distorted = (np.cumsum(steps) - steps[0])[place]
    plain = np.array(values, float)
    units = data.draw(st.sampled_from(["tpm", "counts", "log2"]))
    expected = model.encode(plain[None], GENES, "tpm").latents
    np.testing.assert_array_equal(model.encode(distorted[None], GENES, units).latents, expected)
    beside = np.concatenate([profiles(3, 5), distorted[None]])  # alone as in a batch
    np.testing.assert_array_equal(model.encode(beside, GENES, units).latents[3:], expected)
    swapped = plain.copy()
    swapped[[np.argmin(plain), np.argmax(plain)]] = plain.max(), plain.min()
    assert plain.min() == plain.max() or (model.encode(swapped[None], GENES, "tpm").latents != expected).any()


def test_a_profile_without_its_low_genes_gets_the_scores_that_it_has_with_them(transform: ExpressionTransform) -> None:
    x = profiles(30, 3)
    whole = transform.apply(x, GENES, "tpm")
    high = transform.mean > np.median(transform.mean)
    with_gap = transform.apply(np.where(high, x, np.nan), GENES, "tpm")
    np.testing.assert_array_equal(with_gap[:, ~high], 0)
    kept = [gene for gene, of_it in zip(GENES, high, strict=True) if of_it]
    np.testing.assert_array_equal(transform.apply(x[:, high], kept, "tpm"), with_gap)
    off = np.sqrt(np.square(with_gap - whole)[:, high].mean())
    # Known wrong: ranks among the measured genes alone take the higher half of genes for all of them.
    alone = norm.ppf((rankdata(x[:, high], axis=1) - 0.5) / high.sum()) - transform.mean[high]
    wrong = np.sqrt(np.square(alone - whole[:, high]).mean())
    assert off < 0.2 and wrong > 0.5


def test_ranks_go_to_the_quantiles_of_the_same_genes_in_training(transform: ExpressionTransform) -> None:
    genes = np.arange(0, 120, 3)
    train = norm.ppf((rankdata(profiles(80, 1), axis=1) - 0.5) / 120)[:, genes]
    x = np.random.default_rng(4).permutation(np.arange(40.0))[None]  # every rank once
    found = transform.apply(x, [GENES[k] for k in genes], "tpm")[0, genes] + transform.mean[genes]
    expected = np.quantile(train, (rankdata(x[0]) - 0.5) / 40)
    middle = (expected > -0.9) & (expected < 1.5)  # the lowest are ties
    np.testing.assert_allclose(found[middle], expected[middle], atol=0.05)


def test_all_genes_together_cover_every_share_evenly_whatever_is_tied(transform: ExpressionTransform) -> None:
    """So a whole profile, whose ranks are taken as they are, is a profile that lacks nothing."""
    assert transform.reference is not None
    fit, tied = RankFit(7), np.float64([[0, 0, 0, 0, 1, 2, 3], [5, 4, 4, 3, 2, 1, 0]])
    fit.add(tied, tied)
    for reference in (transform.reference, fit.reference()):
        np.testing.assert_allclose(
            reference.coverage.mean(axis=0), norm.cdf(np.linspace(-4, 4, reference.EDGES)), atol=1e-6
        )


def test_inverted_profiles_have_the_order_of_their_scores_and_the_levels_of_training(
    transform: ExpressionTransform,
) -> None:
    x = profiles(20, 6)
    x[:4, 30:50] = np.nan
    z = transform.apply(x, GENES, "tpm")
    back = transform.invert(np.where(np.isnan(x), np.nan, z))
    np.testing.assert_array_equal(np.isnan(back), np.isnan(x))
    np.testing.assert_allclose(transform.apply(back, GENES, "tpm")[4:], z[4:], atol=1e-6)  # zeros tie as before
    np.testing.assert_allclose(transform.apply(back, GENES, "tpm")[:4], z[:4], atol=0.02)
    levels = np.sort(np.log1p(profiles(80, 1)), axis=1).mean(axis=0)
    untied = np.random.default_rng(7).permuted(np.tile(np.arange(120.0), (3, 1)), axis=1)
    levelled = transform.invert(transform.apply(untied, GENES, "counts"))
    np.testing.assert_allclose(np.sort(np.log1p(levelled), axis=1), np.tile(levels, (3, 1)), rtol=1e-5, atol=1e-6)


def test_a_gene_moves_by_its_log_units_and_stays_within_the_ranks(transform: ExpressionTransform) -> None:
    z, columns = transform.apply(profiles(10, 8), GENES, "tpm"), np.array([3, 9])
    before = transform.logged(z)[:, columns]
    inside = (before > 0.5) & (before < 3)
    assert inside.sum() > 5
    after = z.copy()
    after[:, columns] = transform.plus_log(z[:, columns], columns, 0.4)
    np.testing.assert_allclose((transform.logged(after)[:, columns] - before)[inside], 0.4, atol=1e-3)
    np.testing.assert_array_equal(transform.plus_log(z[:, columns], columns, 0.0), z[:, columns])
    lowest, highest = transform.bounds
    assert (z >= lowest - 1e-6).all() and (z <= highest + 1e-6).all()


def test_the_reference_is_of_the_first_profiles_and_blocks_do_not_matter(tmp_path: Path) -> None:
    x = profiles(50, 9)
    whole = ExpressionTransform.fit(x, GENES, "tpm", "log1p", "normal_scores")
    blocks = ExpressionTransform.fit_blocks([x[:7], x[:0], x[7:]], GENES, "tpm", "log1p", "normal_scores")
    assert whole.reference is not None and blocks.reference is not None
    np.testing.assert_allclose(blocks.mean, whole.mean, atol=1e-12)
    np.testing.assert_allclose(blocks.reference.levels, whole.reference.levels, rtol=1e-6)
    np.testing.assert_allclose(blocks.reference.coverage, whole.reference.coverage, atol=1e-6)
