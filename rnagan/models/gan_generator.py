"""A GAN's generator as a `TileGenerator`: one forward of the network for a tile."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.config.gan import GANConfig
from rnagan.io.weights import build_with_weights, write_tensors
from rnagan.models import conditioning
from rnagan.models.generators import build_generator
from rnagan.models.sampling import to_uint8
from rnagan.models.tile_generator import Card

WEIGHTS = "generator.safetensors"


@dataclasses.dataclass(frozen=True)
class GANGenerator:
    """The network of a config with the width of its conditions, 0 in the modes without profiles.

    `truncation` of its card multiplies all noise and leaves the condition alone. Brock et al. 2019 (BigGAN, section
    3.1) redraw noise beyond a bound; scaling it instead keeps a tile's noise the same draw at every ψ, as Karras et al.
    2019 (StyleGAN, appendix B) do with their intermediate latent.
    """

    config: GANConfig
    network: nn.Module
    condition_width: int

    family: ClassVar[str] = "gan"
    files: ClassVar[tuple[str, ...]] = (WEIGHTS,)
    folders: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, config: GANConfig, network: nn.Module, condition_width: int) -> Self:
        return cls(config, network, condition_width)

    @classmethod
    def load(cls, folder: Path, config: GANConfig, condition_width: int) -> Self:
        """Read the weights of a model folder; raises as `build_with_weights`."""
        network = build_with_weights(folder / WEIGHTS, lambda: build_generator(config, condition_width))
        return cls(config, network.eval(), condition_width)

    @staticmethod
    def save(folder: Path, config: GANConfig, condition_width: int, weights: dict[str, Tensor]) -> None:
        """Write the network's weights into a model folder."""
        write_tensors(folder / WEIGHTS, weights)

    def to(self, device: torch.device) -> Self:
        return dataclasses.replace(self, network=self.network.to(device))

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def card(self) -> Card:
        return {"truncation": 1.0}

    @property
    def together(self) -> bool:
        return self.config.batch_standardise

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def draw_noise(self, purpose: str, start: int, count: int, seed: int) -> Tensor:
        return conditioning.draw_noise(self.config, purpose, start, count, self.condition_width, seed)

    @torch.no_grad()
    def tiles(self, c: Tensor | None, noise: Tensor, options: Card) -> NDArray[np.uint8]:
        noise = noise.to(self.device, self.dtype) * float(options["truncation"])
        return to_uint8(self.network(conditioning.generator_input(self.config, c, noise)).float())
