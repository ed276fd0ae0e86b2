import numpy as np
import pytest
import torch

from rnagan.evaluation import features
from rnagan.evaluation.features import EfficientNetLite0, offline_extractor


@pytest.fixture(scope="module")
def extractor() -> features.FeatureExtractor:
    return offline_extractor()


def tiles(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_features_have_the_width_that_is_stated(extractor: features.FeatureExtractor) -> None:
    found = extractor(tiles(3))
    assert found.shape == (3, extractor.width) and found.dtype == np.float32
    assert found.std(axis=0).max() > 0.1 and found.min() >= 0  # after a ReLU6
    assert extractor(tiles(0)).shape == (0, extractor.width)
    assert extractor.name == "efficientnet_lite0"


def test_a_tiles_features_do_not_depend_on_the_tiles_beside_it(
    extractor: features.FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = extractor(tiles(7))
    np.testing.assert_allclose(np.concatenate([extractor(tiles(7)[k : k + 1]) for k in range(7)]), together, atol=2e-5)
    monkeypatch.setattr(features, "BATCH", 3)
    np.testing.assert_allclose(extractor(tiles(7)), together, atol=2e-5)
    extractor.network.train()  # the wrong variant: normalised over the batch
    try:
        assert np.abs(extractor(tiles(7)[:2]) - together[:2]).max() > 0.01
    finally:
        extractor.network.eval()


def test_weights_are_those_of_imagenet(extractor: features.FeatureExtractor) -> None:
    """A network that knows what it looks at puts two views of one texture near one another, and others apart."""
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :96]
    stripes = [np.sin((rows + draw.uniform(0, 9)) * 0.7) for _ in range(4)]
    rings = [np.sin(np.hypot(rows - 48 - draw.uniform(0, 9), columns - 48) * 0.7) for _ in range(4)]
    grey = (127 + 100 * np.array(stripes + rings)).astype(np.uint8)
    found = extractor(np.repeat(grey[..., None], 3, axis=3))
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    same = np.kron(np.eye(2), np.ones((4, 4))).astype(bool)
    assert apart[same].max() < 0.5 * apart[~same].min()


def test_sizes_are_enlarged_to_what_the_strides_need() -> None:
    for side, seen in ((32, 128), (64, 128), (128, 128), (200, 224), (224, 224), (256, 256)):
        x = torch.zeros(1, 3, side, side)
        assert features._enlarged(x, EfficientNetLite0.smallest_px).shape[2:] == (seen, seen)


def test_making_it_draws_no_random_number() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    offline_extractor()
    assert torch.equal(torch.rand(1), expected)


def test_another_file_of_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "LITE0_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"isn't the weights file it should be; reinstall efficientnet-lite0-pytorch"):
        offline_extractor()


def test_tiles_of_another_kind_are_refused(extractor: features.FeatureExtractor) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(n, H, W, 3\), not float64"):
        extractor(np.zeros((1, 32, 32, 3)))
