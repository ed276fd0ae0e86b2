import numpy as np
import pytest

from rnagan.config.vae import VAEConfig
from rnagan.expression.transform import ExpressionTransform
from rnagan.training.vae import data
from rnagan.training.vae.augmentation import InputAugmentation

GENES = [f"g{k}" for k in range(300)]
ON = VAEConfig(hidden="8", latent=2, transform="zscore", augment_library=0.3, augment_genes=0.2, augment_shift=0.1)


@pytest.fixture(scope="module")
def transform() -> ExpressionTransform:
    draw = np.random.default_rng(0)
    x = np.exp(3 + draw.normal(size=(50, 300)) * np.linspace(0.2, 1.5, 300))
    x[:, 7] = 4
    return ExpressionTransform.fit(x, GENES, "tpm", "log1p")


def offsets(transform: ExpressionTransform, count: int = 2000, **changes: float) -> np.ndarray:
    off = {"augment_library": 0.0, "augment_genes": 0.0, "augment_shift": 0.0}
    augmentation = InputAugmentation.of(ON.replace(**(off | changes)), transform)
    assert augmentation is not None
    return augmentation.offsets(0, count)


def test_a_library_moves_all_genes_by_the_same_log_units(transform: ExpressionTransform) -> None:
    found = offsets(transform, augment_library=0.3) * transform.sd
    varying = np.delete(found, 7, axis=1)
    np.testing.assert_allclose(varying, np.tile(varying[:, :1], 299))
    np.testing.assert_allclose(varying[:, 0].std(), 0.3, rtol=0.05)
    assert (found[:, 7] == 0).all()  # doesn't vary in training


def test_genes_have_offsets_of_their_own_and_some_together(transform: ExpressionTransform) -> None:
    own, together = (
        np.delete(offsets(transform, **{f"augment_{name}": 0.2}), 7, axis=1) for name in ("genes", "shift")
    )
    for found in (own, together):
        np.testing.assert_allclose(np.sqrt(np.square(found).mean()), 0.2, rtol=0.1)
    ranks = [np.linalg.matrix_rank(found, tol=1e-6) for found in (own, together)]
    assert ranks == [299, 16]


def test_the_encoder_sees_what_the_decoder_is_not_to_rebuild(transform: ExpressionTransform) -> None:
    z = np.random.default_rng(1).normal(size=(40, 300)).astype(np.float32)
    augmentation = InputAugmentation.of(ON, transform)
    batch = data._with_draws(ON, 5, z, augmentation)
    np.testing.assert_array_equal(batch.x, z)
    assert 0.2 < np.square(batch.seen.numpy() - z).mean() ** 0.5 < 1
    part = data._with_draws(ON, 7, z[2:5], augmentation)  # addressed by number, on any number of processes
    np.testing.assert_array_equal(part.seen, batch.seen[2:5])
    np.testing.assert_array_equal(part.eps, batch.eps[2:5])


def test_without_augmentation_the_encoder_sees_the_profile(transform: ExpressionTransform) -> None:
    off = VAEConfig(hidden="8", latent=2, transform="zscore")
    assert InputAugmentation.of(off, transform) is None
    batch = data._with_draws(off, 0, np.ones((2, 300), np.float32))
    assert batch.seen.data_ptr() == batch.x.data_ptr()


def test_ranks_know_no_library(transform: ExpressionTransform) -> None:
    with pytest.raises(ValueError, match="are for transform zscore, not normal_scores; set them to 0"):
        ON.replace(transform="normal_scores")
