"""Feature extractors, tiles in and vectors out, by name: those offline, FID's Inception, DINOv2, a user's own."""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.io.files import sha256_of_file
from rnagan.io.weights import read_tensors
from rnagan.models.backbones import LITE, digest_of, load_lite
from rnagan.models.resnet import MEAN, SD
from rnagan.runtime.devices import AUTO, choose_device, exact_float32

BATCH = 32
INCEPTION, DINOV2 = "inception_v3", "dinov2"
INCEPTION_SHA256_BEGINS = "6726825d"  # of torch-fidelity's conversion of the weights that define FID
DINOV2_HUB = "facebook/dinov2-small"
DINOV2_PX = 224
LITE0, HANDMADE = "efficientnet_lite0", "handmade"


class FeatureExtractor(Protocol):
    """`name` is part of the name of every figure made with it, and that of its network as a backbone, where it is one;
    `width`: of its vectors; `resizer`: how it brings tiles to the size that it sees, in words; `weights`: hex SHA-256
    of the file with its weights. One whose numbers have different units also has `standardised` (`comparable`)."""

    name: str
    width: int
    resizer: str
    weights: str

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Tiles (n, H, W, 3) uint8 → features (n, width) float32; a tile's don't depend on the tiles beside it."""

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """What its classifier says of features (n, width): (n, classes), or None where it has none."""


class EfficientNetLite:
    """Means over space of an EfficientNet-Lite's last feature maps (ImageNet weights), 1,280 numbers a tile.

    Tiles are seen at their own size, enlarged (bilinearly) to the next multiple of 32 px, which the network's strides
    need, and to 128 px at least: below, its last maps would be 1 to 3 px wide. Compare figures of one tile size only.
    `name`: one of `LITE`.
    """

    width = 1280
    smallest_px = 128
    resizer = "bilinear to the next multiple of 32 px, 128 px at least"

    def __init__(self, name: str, device: str | torch.device = AUTO) -> None:
        self.name, self.weights, self.device = name, LITE[name].sha256, choose_device(device)
        self.network = load_lite(name).to(self.device).to(memory_format=torch.channels_last)
        self.classifier: nn.Linear = self.network._fc  # type: ignore[assignment]
        self.maps: Callable[[Tensor], Tensor] = self.network.extract_features  # type: ignore[assignment]

    @torch.no_grad()
    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _in_batches(tiles, self.width, self._features)

    @torch.no_grad()
    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of ImageNet's 1,000 classes."""
        return self.classifier(torch.from_numpy(np.array(features)).to(self.device)).cpu().numpy()

    def _features(self, x: Tensor) -> Tensor:
        x = x.to(self.device, memory_format=torch.channels_last).float()
        x = _enlarged((x - 127) / 128, self.smallest_px)  # the scale that its weights were trained with
        return self.maps(x).mean((2, 3))


def offline_extractor(device: str | torch.device = AUTO) -> FeatureExtractor:
    """The extractor that is always there."""
    return EfficientNetLite(LITE0, device)


def took_part(extractor: str, backbone: str) -> bool:
    """Whether the network of the extractor called so was the critic's in a training with this `backbone`
    (`GANConfig.backbone`): the generator was fitted to its features, and its scores flatter the model."""
    return extractor == backbone


def witness_of(backbone: str) -> str:
    """The name of the offline extractor that took no part in a training with this `backbone`: EfficientNet-Lite0's,
    and EfficientNet-Lite2's where that one did."""
    return next(name for name in LITE if not took_part(name, backbone))


def comparable(
    extractor: FeatureExtractor, features: NDArray[np.float32], real: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Features (n, width) as distances take them, beside those of the real tiles (m, width) that they are compared
    with: as they are or, where the extractor says `standardised`, in SDs of the real tiles from their mean.

    A number that is the same of all real tiles keeps its unit.
    """
    if not getattr(extractor, "standardised", False):
        return features
    wide = np.asarray(real, np.float64)
    mean, sd = wide.mean(axis=0), wide.std(axis=0)
    varies = sd > 1e-6 * np.maximum(np.abs(mean), 1)  # by more than rounding
    return ((features - mean) / np.where(varies, sd, 1)).astype(np.float32)


def check_tiles(tiles: NDArray[np.uint8]) -> None:
    """Refuse what isn't uint8 (n, H, W, 3)."""
    if tiles.ndim != 4 or tiles.shape[3] != 3 or tiles.dtype != np.uint8:
        raise ValueError(f"Tiles must be uint8 of shape (n, H, W, 3), not {tiles.dtype} of shape {tiles.shape}.")


def _enlarged(x: Tensor, smallest: int) -> Tensor:
    sides = [max(smallest, -(-side // 32) * 32) for side in x.shape[2:]]
    return x if sides == list(x.shape[2:]) else F.interpolate(x, size=sides, mode="bilinear", align_corners=False)


def _handmade(device: torch.device) -> FeatureExtractor:
    from rnagan.evaluation.handmade import HandmadeStatistics  # it imports this module, and scikit-image

    return HandmadeStatistics()


_made_by: dict[str, Callable[[torch.device], FeatureExtractor]] = {
    **{name: functools.partial(EfficientNetLite, name) for name in LITE},
    HANDMADE: _handmade,
}


def register_extractor(name: str, make: Callable[[torch.device], FeatureExtractor]) -> None:
    """Let `make_extractor` know an extractor of your own under a name; `make(device)` returns it."""
    _made_by[name] = make


def make_extractor(name: str, weights: Path | str | None = None, device: str | torch.device = AUTO) -> FeatureExtractor:
    """The extractor called `name`: efficientnet_lite0, efficientnet_lite2 or handmade (offline), inception_v3, dinov2,
    a registered one, or `module:function`.

    `weights`: Inception's file or DINOv2's folder; without it, what their libraries have fetched before, or fetch.
    `device`: as `choose_device` takes it. Raises `ValueError` and `FileNotFoundError`.
    """
    device = choose_device(device)
    if name == INCEPTION:
        return InceptionV3(_inception_file(weights), device)
    if name == DINOV2:
        return DINOv2(weights or DINOV2_HUB, device)
    if weights is not None:
        raise ValueError(f"Weights are for the extractors {INCEPTION} and {DINOV2}; leave them out for {name}.")
    if name in _made_by:
        return _made_by[name](device)
    module, colon, function = name.partition(":")
    if not colon:
        known = ", ".join([*_made_by, INCEPTION, DINOV2])
        raise ValueError(f"There is no extractor {name}; known are {known}, and your own as module:function.")
    try:
        return getattr(importlib.import_module(module), function)(device)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The extractor {name} can't be made ({error}); it is module:function.") from None


class InceptionV3:
    """torch-fidelity's Inception-v3, 2,048 numbers a tile: FID's own where the weights are those of FID.

    With other weights its name says so, and no score made with it is called FID.
    """

    width = 2048
    resizer = "bilinear to 299 px, as TensorFlow 1 did"

    def __init__(self, weights: Path, device: torch.device) -> None:
        self.weights = sha256_of_file(weights)
        official = self.weights.startswith(INCEPTION_SHA256_BEGINS)
        self.name = INCEPTION if official else f"{INCEPTION}_{self.weights[:8]}"
        network = _inception(_state_dict(weights), weights).to(device)
        # Channels last, a CPU is half as fast again.
        self.device, self.network = device, network.to(memory_format=torch.channels_last)
        self.classifier: nn.Linear = self.network.fc  # type: ignore[assignment]

    @torch.no_grad()
    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _in_batches(tiles, self.width, lambda x: self.network(x.to(self.device))[0])

    @torch.no_grad()
    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of its 1,008 classes, without their biases, as the Inception Score takes them."""
        return (torch.from_numpy(np.array(features)).to(self.device) @ self.classifier.weight.T).cpu().numpy()


class DINOv2:
    """The class token of a DINOv2 that transformers loads (Oquab et al. 2023): 384 numbers a tile for the small one."""

    resizer = f"bicubic with antialiasing to {DINOV2_PX} px"

    def __init__(self, source: Path | str, device: torch.device) -> None:
        from transformers import Dinov2Model

        try:
            network: Any = Dinov2Model.from_pretrained(str(source), use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"No DINOv2 can be loaded from {source} ({str(error).splitlines()[0]}); give --weights, a folder of "
                "transformers with config.json and model.safetensors."
            ) from None
        self.device, self.network = device, network.to(device).eval().requires_grad_(False)
        self.width = network.config.hidden_size
        self.weights = digest_of(network)
        self.name = f"{DINOV2}_{Path(str(source)).name.removeprefix('dinov2-')}"

    @torch.no_grad()
    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _in_batches(tiles, self.width, self._features)

    def logits(self, features: NDArray[np.float32]) -> None:
        """It is no classifier."""

    def _features(self, x: Tensor) -> Tensor:
        mean, sd = (torch.tensor(each, device=self.device).view(1, 3, 1, 1) for each in (MEAN, SD))
        size = (DINOV2_PX, DINOV2_PX)
        x = F.interpolate(x.to(self.device).float() / 255, size=size, mode="bicubic", antialias=True)
        return self.network((x - mean) / sd).pooler_output


def _in_batches(tiles: NDArray[np.uint8], width: int, features: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
    check_tiles(tiles)
    pieces = [np.empty((0, width), np.float32)]
    for first in range(0, len(tiles), BATCH):
        x = torch.from_numpy(np.ascontiguousarray(tiles[first : first + BATCH].transpose(0, 3, 1, 2)))
        with exact_float32():
            pieces.append(features(x).float().cpu().numpy())
    return np.concatenate(pieces)


def _inception(state: dict[str, Tensor], path: Path) -> nn.Module:
    """torch-fidelity's network with these weights. It would load a file of weights with pickle, so it is given the
    tensors in the place of its download."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        try:
            return inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
        except RuntimeError:
            raise ValueError(f"{path} doesn't hold the weights of torch-fidelity's Inception-v3.") from None


def _state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        # weights_only builds tensors alone: nothing in the file can run code.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} holds no weights that can be loaded safely ({reason}).") from None


def _inception_file(weights: Path | str | None) -> Path:
    """The file given, or the one in torch's cache, fetched into it where it isn't there."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    if weights is not None:
        return Path(weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=INCEPTION_SHA256_BEGINS)
        except OSError as error:
            raise FileNotFoundError(
                f"FID's Inception weights can't be fetched ({error}); download {URL_INCEPTION_V3} elsewhere and give "
                "it as --weights, or choose the extractor efficientnet_lite0, which needs nothing."
            ) from None
    return path
