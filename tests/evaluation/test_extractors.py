import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rnagan.evaluation.features import make_extractor, register_extractor
from tests.evaluation.pixels import Pixels


def tiles(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_inception_is_torch_fidelitys_and_only_fids_weights_make_fid(inception_weights: Path, tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    ours = make_extractor("inception_v3", inception_weights)
    network = FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], str(inception_weights))
    features, logits = network(torch.from_numpy(tiles(2)).permute(0, 3, 1, 2))
    np.testing.assert_allclose(ours(tiles(2)), features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.logits(features.numpy()), logits, rtol=1e-4, atol=1e-5)
    assert ours.name == f"inception_v3_{ours.weights[:8]}" and ours.width == 2048
    save_file(torch.load(inception_weights, weights_only=True), tmp_path / "weights.safetensors")
    safe = make_extractor("inception_v3", tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(safe(tiles(1)), ours(tiles(1)))


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "ran").touch, ())

    (tmp_path / "hostile.pth").write_bytes(pickle.dumps(Hostile()))
    torch.save({"conv": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"hostile.pth holds no weights that can be loaded safely"):
        make_extractor("inception_v3", tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match=r"other.pth doesn't hold the weights of torch-fidelity's Inception-v3"):
        make_extractor("inception_v3", tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match=r"gone.pth does not exist"):
        make_extractor("inception_v3", tmp_path / "gone.pth")


def test_dinov2_comes_from_a_folder(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=56)
    network = Dinov2Model(config).eval()
    network.save_pretrained(tmp_path / "dinov2-tiny")
    extractor = make_extractor("dinov2", tmp_path / "dinov2-tiny")
    assert extractor.name == "dinov2_tiny" and extractor.width == 24 and extractor.logits(np.zeros((1, 24))) is None
    shown = tiles(3, 224)
    x = (torch.from_numpy(shown).permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / (
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    )
    with torch.no_grad():
        expected = network(x).last_hidden_state[:, 0]  # at its own size nothing is resized
    np.testing.assert_allclose(extractor(shown), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"No DINOv2 can be loaded from .*gone .* give --weights"):
        make_extractor("dinov2", tmp_path / "gone")


def test_a_laboratorys_own_extractor() -> None:
    register_extractor("ours", lambda device: Pixels())
    for name in ("ours", "tests.evaluation.pixels:make"):
        assert make_extractor(name)(tiles(2)).shape == (2, 192)
    for name, width in (("efficientnet_lite0", 1280), ("efficientnet_lite2", 1280), ("handmade", 81)):
        extractor = make_extractor(name)
        assert (extractor.name, extractor.width) == (name, width) and extractor(tiles(2)).shape == (2, width)
    for name, said in (
        ("uni", "There is no extractor uni; known are efficientnet_lite0, efficientnet_lite2, handmade, "),
        ("no_such_module:make", r"The extractor no_such_module:make can't be made \(No module named"),
        (
            "tests.evaluation.pixels:gone",
            r"can't be made \(module .tests.evaluation.pixels. has no attribute 'gone'\); it is module:function",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            make_extractor(name)
    with pytest.raises(ValueError, match="leave them out for ours"):
        make_extractor("ours", "weights.pth")
