"""The oracles are NumPy by hand: Cholesky of a covariance, sums of centroids, and encode and decode one by one."""

from pathlib import Path

import numpy as np
import pytest

from rnagan.expression.h5ad import read_expression
from rnagan.expression.transform import ExpressionTransform
from rnagan.latent import edits
from rnagan.models.latent_space import LatentSpace
from rnagan.models.trained_vae import VAEModel, load_vae

COVARIANCE = np.array([[0.09, 0.05, 0.0], [0.05, 0.16, -0.02], [0.0, -0.02, 0.04]])  # of units 3, 0 and 2


@pytest.fixture(scope="module")
def space() -> LatentSpace:
    """Four of six units are inactive or nearly; order of the active ones by KL: 3, 0, 2."""
    kl = np.array([0.5, 0.001, 0.2, 0.9, 0.0, 0.0], np.float32)
    centroids = np.array([[1, 0, 2, -1, 0, 0], [-1, 0, 0, 3, 0, 0]], np.float32)
    whitening = np.linalg.inv(np.linalg.cholesky(COVARIANCE)).T.astype(np.float32)
    zeros = np.zeros(6, np.float32)
    return LatentSpace(zeros, zeros + 1, kl, ("cortex", "lung"), centroids, whitening, 2.0, 2.0)


@pytest.fixture(scope="module")
def model(toy_vae: Path) -> VAEModel:
    return load_vae(toy_vae / "model")


@pytest.fixture(scope="module")
def x(toy_profiles: Path) -> np.ndarray:
    return read_expression(toy_profiles / "profiles.h5ad").split("test")


def test_samples_of_a_tissue_have_its_scatter_and_those_of_the_prior_do_not(space: LatentSpace) -> None:
    own, prior = (edits.sample_latents(space, "lung", 20_000, 0, spread) for spread in ("tissue", "prior"))
    assert (own.shape, own.dtype) == ((20_000, 6), np.float32)
    np.testing.assert_allclose(own.mean(axis=0), space.centroid("lung"), atol=0.03)
    np.testing.assert_allclose(np.cov(own[:, [3, 0, 2]].T), COVARIANCE, atol=0.005)
    np.testing.assert_allclose(own[:, [1, 4, 5]].std(axis=0), 1, atol=0.02)  # inactive: the prior's noise
    np.testing.assert_allclose(np.cov(prior.T), np.eye(6), atol=0.04)
    # known wrong: the whitening instead of its inverse, and its inverse from the other side
    noise = np.random.default_rng(0).normal(size=(20_000, 3))
    for wrong in (noise @ space.whitening, noise @ np.linalg.inv(space.whitening).T):
        assert np.abs(np.cov(wrong.T) - COVARIANCE).max() > 0.01
    assert np.median(space.distance(own)) == pytest.approx(0.9, abs=0.1) and space.distance(prior).mean() > 2


def test_a_draw_depends_on_its_number_tissue_and_seed_alone(space: LatentSpace) -> None:
    few, many = (edits.sample_latents(space, "lung", n) for n in (3, 9))
    np.testing.assert_array_equal(few, many[:3])
    others = edits.sample_latents(space, "lung", 3, 1), edits.sample_latents(space, "cortex", 3)
    assert all(np.abs(few - other).max() > 0.1 for other in others)


def test_shift_adds_the_difference_of_centroids(space: LatentSpace) -> None:
    latents = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    moved = edits.shift_latents(space, latents, ["cortex", "lung", "cortex"], "lung")
    step = np.array([-2, 0, -2, 4, 0, 0])
    np.testing.assert_allclose(moved - latents, [step, 0 * step, step], atol=1e-6)
    back = edits.shift_latents(space, moved[:1], ["lung"], "cortex")
    np.testing.assert_allclose(back, latents[:1], atol=1e-6)


def test_interpolation_has_both_ends_and_even_steps() -> None:
    start, end = np.array([[0, 1], [4, -1]], np.float32)
    line, share = edits.interpolate_latents(start, end, 5)
    np.testing.assert_allclose(line, [[0, 1], [1, 0.5], [2, 0], [3, -0.5], [4, -1]])
    np.testing.assert_allclose(share, [0, 0.25, 0.5, 0.75, 1])


def test_moving_a_gene_in_sds_and_in_log_units(model: VAEModel, x: np.ndarray) -> None:
    transform = model.transform
    z = transform.apply(x, transform.genes, "tpm")
    moved = np.array([4, 7])
    by_sd = transform.invert(edits.move_genes(transform, z, moved, 0.5))
    by_log = transform.invert(edits.move_genes(transform, z, moved, 0.5, "log"))
    np.testing.assert_allclose(
        np.log1p(by_sd[:, moved]), np.log1p(x[:, moved]) + 0.5 * transform.sd[moved], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(np.log1p(by_log[:, moved]), np.log1p(x[:, moved]) + 0.5, rtol=1e-4, atol=1e-4)
    others = np.delete(np.arange(x.shape[1]), moved)
    np.testing.assert_allclose(by_log[:, others], x[:, others], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(transform.invert(edits.move_genes(transform, z, moved, -99.0))[:, moved], 0, atol=1e-6)


def test_what_follows_a_moved_gene_is_the_change_of_the_reconstruction(model: VAEModel, x: np.ndarray) -> None:
    """Programmes drive many genes at once: moving some of their genes moves the others the same way."""
    genes, moved = list(model.transform.genes), np.arange(8)
    done = edits.perturb(model, x, moved, 1.0, "log")
    z = model.transform.apply(x, genes, "tpm")
    raised = x.copy()
    raised[:, moved] = np.expm1(np.log1p(x[:, moved]) + 1)
    before, after = (model.decode(model.encode(p, genes, "tpm").latents) for p in (x, raised))
    np.testing.assert_allclose(done.change, after - before, atol=2e-3)
    np.testing.assert_allclose(done.followed[:, 8:], z[:, 8:] + (after - before)[:, 8:], atol=2e-3)
    np.testing.assert_array_equal(done.followed[:, moved], done.edited[:, moved])
    np.testing.assert_allclose(done.edited[:, 8:], z[:, 8:], atol=1e-6)
    assert np.abs(done.change[:, 8:]).mean() > 0.02
    # known wrong: the reconstruction itself, which would lose what the latent doesn't hold of a profile
    assert np.abs(after[:, 8:] - done.followed[:, 8:]).mean() > 0.05


def test_levels_are_multiplied_and_a_profiles_total_stays(x: np.ndarray) -> None:
    moved, by = np.array([2, 9]), np.array([0.7, -1.2])
    folded = edits.fold_genes(x, moved, by, "tpm")
    np.testing.assert_allclose(folded.sum(axis=1), x.sum(axis=1), rtol=1e-5)
    raised = x.astype(np.float64)
    raised[:, moved] *= np.exp(by)
    np.testing.assert_allclose(
        folded / folded.sum(axis=1, keepdims=True), raised / raised.sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert np.abs(raised.sum(axis=1) / x.sum(axis=1) - 1).min() > 1e-4  # known wrong: without the total
    back = edits.fold_genes(folded, moved, -by, "tpm")
    np.testing.assert_allclose(back, x, rtol=1e-4)
    log2 = edits.fold_genes(np.log2(x + 1), moved, by, "log2")
    np.testing.assert_allclose(log2[:, moved], np.log2(x + 1)[:, moved] + by / np.log(2), atol=1e-5)
    gapped = np.where(np.arange(30) == 5, np.nan, x).astype(np.float32)
    assert np.isnan(edits.fold_genes(gapped, moved, by, "tpm")).sum() == len(x)


def test_leading_direction_is_the_first_principal_component_upwards() -> None:
    draw = np.random.default_rng(0)
    along = np.array([1.0, -0.5, 2.0])
    z = (np.outer(draw.normal(size=500), along) + 0.05 * draw.normal(size=(500, 3))).astype(np.float32)
    found = edits.leading_direction(np.c_[np.zeros(500), z].astype(np.float32), np.array([1, 2, 3]))
    np.testing.assert_allclose(found, along, atol=0.15)
    np.testing.assert_allclose(edits.leading_direction(-z, np.arange(3)), found, atol=1e-4)  # a sign means nothing
    covariance = np.cov(z.T, bias=True)
    value, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(np.abs(found), np.abs(vectors[:, -1]) * value[-1] ** 0.5, rtol=1e-4)


def test_unmeasured_genes_stay_unmeasured_or_come_from_the_reconstruction(model: VAEModel, x: np.ndarray) -> None:
    gapped = x.copy()
    gapped[:, 20:22] = np.nan
    with pytest.warns(UserWarning, match="lack up to"):
        done = edits.perturb(model, gapped, np.array([0]), 1.0)
    assert np.isnan(done.edited[:, 20:22]).all() and np.isfinite(np.delete(done.edited, [20, 21], axis=1)).all()
    assert np.isfinite(done.followed).all()


def test_mistakes_are_refused(space: LatentSpace, model: VAEModel, x: np.ndarray) -> None:
    with pytest.raises(ValueError, match="wasn't trained on 'spleen'; it knows cortex, lung"):
        edits.sample_latents(space, "spleen", 1)
    with pytest.raises(ValueError, match="spread is 'wide'; choose tissue or prior"):
        edits.sample_latents(space, "lung", 1, spread="wide")
    with pytest.raises(ValueError, match="give at least 2 steps"):
        edits.interpolate_latents(np.zeros(2, np.float32), np.ones(2, np.float32), 1)
    gapped = np.where(np.arange(30) == 3, np.nan, x)
    with pytest.raises(ValueError, match="ENSG00000000003 wasn't measured in every profile"):
        edits.perturb(model, gapped, np.array([3]), 1.0)
    constant = ExpressionTransform.fit(np.c_[x[:, 0], np.ones(len(x))], ["A", "B"], "tpm", "log1p")
    with pytest.raises(ValueError, match="B has the same value in every training profile"):
        edits.move_genes(constant, np.zeros((1, 2), np.float32), np.array([1]), 1.0)
    with pytest.raises(ValueError, match="scale is 'fold'"):
        edits.move_genes(constant, np.zeros((1, 2), np.float32), np.array([0]), 1.0, "fold")
