"""A flow as a `TileGenerator`: a solver follows its velocity from noise to tiles.

A model folder holds `unet/` and `scheduler/`, which are plain components of diffusers, and `projection.safetensors`,
which makes the class label that the network takes of a condition.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnagan.config.flow import FlowConfig
from rnagan.io.files import check_holds_only
from rnagan.io.weights import build_with_weights, write_tensors
from rnagan.models.flow import FlowNetwork, build_projection, build_scheduler, build_unet, from_grid, guided, solve
from rnagan.models.sampling import to_uint8
from rnagan.models.tile_generator import Card
from rnagan.runtime import rng

PROJECTION, UNET, SCHEDULER = "projection.safetensors", "unet", "scheduler"
UNET_WEIGHTS, UNET_CONFIG = "diffusion_pytorch_model.safetensors", "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"


@dataclasses.dataclass(frozen=True)
class FlowGenerator:
    """The network of a config. Its card: truncation multiplies the noise that the solver starts from."""

    config: FlowConfig
    network: FlowNetwork

    family: ClassVar[str] = "flow"
    files: ClassVar[tuple[str, ...]] = (PROJECTION,)
    folders: ClassVar[tuple[str, ...]] = (UNET, SCHEDULER)
    together: ClassVar[bool] = False

    @classmethod
    def of(cls, config: FlowConfig, network: FlowNetwork, condition_width: int) -> Self:
        return cls(config, network)

    @classmethod
    def load(cls, folder: Path, config: FlowConfig, condition_width: int) -> Self:
        """Read the weights of a model folder; raises as `build_with_weights`."""
        check_holds_only(folder / UNET, (UNET_WEIGHTS, UNET_CONFIG))
        check_holds_only(folder / SCHEDULER, (SCHEDULER_CONFIG,))
        unet = build_with_weights(folder / UNET / UNET_WEIGHTS, lambda: build_unet(config))
        projection = build_with_weights(folder / PROJECTION, lambda: build_projection(config, condition_width))
        return cls(config, FlowNetwork(unet, projection).eval())

    @staticmethod
    def save(folder: Path, config: FlowConfig, condition_width: int, weights: dict[str, Tensor]) -> None:
        """Write the network's weights into a model folder, with what diffusers needs to load it."""
        of_unet = {name.removeprefix("unet."): own for name, own in weights.items() if name.startswith("unet.")}
        of_projection = {
            name.removeprefix("projection."): own for name, own in weights.items() if name.startswith("projection.")
        }
        with torch.device("meta"):
            unet = build_unet(config)
        unet.save_config(folder / UNET)
        write_tensors(folder / UNET / UNET_WEIGHTS, of_unet)
        build_scheduler().save_pretrained(folder / SCHEDULER)
        write_tensors(folder / PROJECTION, of_projection)

    def to(self, device: torch.device) -> Self:
        return dataclasses.replace(self, network=self.network.to(device))

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def card(self) -> Card:
        config = self.config
        own: dict[str, float | int | str] = {"truncation": 1.0}
        if config.condition_dropout:  # without it, what stands for no condition was never trained
            own["guidance"] = config.guidance
        return own | {"steps": config.sampling_steps, "solver": config.solver}

    @property
    def device(self) -> torch.device:
        return self.network.projection.null.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.projection.null.dtype

    def draw_noise(self, purpose: str, start: int, count: int, seed: int) -> Tensor:
        return torch.from_numpy(rng.normal(seed, purpose, start, count, 3 * self.config.resolution**2))

    @torch.no_grad()
    def tiles(self, c: Tensor | None, noise: Tensor, options: Card) -> NDArray[np.uint8]:
        assert c is not None, "a flow is conditional"
        config, network = self.config, self.network
        c = c.to(self.dtype)
        dropped = torch.ones(len(c), dtype=torch.bool, device=c.device)
        velocity = guided(
            lambda x, t: network(x, t, c),
            lambda x, t: network(x, t, c, dropped),
            float(options["guidance"]),
        )
        x = noise.to(self.device, self.dtype).view(-1, config.channels, config.grid, config.grid)
        x = solve(velocity, x * float(options["truncation"]), int(options["steps"]), str(options["solver"]))
        return to_uint8(from_grid(x, config.block_px).float())
