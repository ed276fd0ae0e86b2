"""What a step draws at random for its images, all at once, so that a loader's threads can do it ahead; and what it
makes of tiles and conditions with it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from numpy.typing import NDArray
from torch import Tensor

from rnagan.data.augment import jittered, turned
from rnagan.data.packed import Layout, Packed, Row


class ImageDraws(ABC):
    """Draws by purpose, each addressed by image number; `rows`: their shapes for one image."""

    rows: dict[str, Row]

    @abstractmethod
    def fill(self, start: int, out: Mapping[str, NDArray]) -> None:
        """Draw for images `start` … `start + n − 1` into `out`, n rows of each purpose."""

    def packed(
        self, start: int, count: int, others: Mapping[str, Row] | None = None, pin_memory: bool = False
    ) -> Packed:
        """The draws of images `start` … `start + count − 1`, with room for `others` beside them."""
        packed = Packed.empty(Layout(count, {**(others or {}), **self.rows}), pin_memory)
        self.fill(start, {name: packed.field(name).numpy() for name in self.rows})
        return packed

    def on(self, tiles: Tensor, start: int, drawn: Packed | None) -> dict[str, Tensor]:
        """The draws of tiles (n, 3, H, H), which are images `start` …, where the tiles are: those that a loader has
        drawn ahead, or else drawn here and now."""
        if drawn is None:
            drawn = self.packed(start, len(tiles), pin_memory=tiles.device.type == "cuda").to(tiles.device)
        return {name: drawn.field(name) for name in self.rows}


def prepared_tiles(
    tiles: Tensor, draws: Mapping[str, Tensor], dtype: torch.dtype, flips: bool, turns: bool, jitter: float = 0.0
) -> Tensor:
    """uint8 tiles → augmented tiles in [-1, 1], by the draws `turns` and `jitter` where they are there."""
    if "turns" in draws:
        tiles = turned(tiles, draws["turns"], flips=flips, turns=turns)
    x = tiles.to(dtype, memory_format=torch.channels_last).div_(127.5).sub_(1)
    return jittered(x, draws["jitter"], jitter) if "jitter" in draws else x


def perturbed(c: Tensor, draws: Mapping[str, Tensor], sd: float) -> Tensor:
    """Conditions (n, width) with their training noise, where it is drawn."""
    return c + sd * draws["condition"] if "condition" in draws else c
