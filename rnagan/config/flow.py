"""Settings of the flow."""

import dataclasses
from typing import ClassVar

from rnagan.config.base import setting
from rnagan.config.tile_training import TileTrainingConfig
from rnagan.io.bounds import MAX_SEED


@dataclasses.dataclass(frozen=True)
class FlowConfig(TileTrainingConfig):
    """Training of a conditional rectified flow. Defaults are the preset `faithful`; presets/flow.*.yaml say where each
    value is from."""

    follows: ClassVar = {
        "condition_dropout": "condition_noise",
        "block_px": "tile_order",
        "sampling_steps": "max_corrupt",
    }
    # What is so of every flow, for what it shares with the GAN.
    mode: ClassVar[str] = "rnagan"
    condition: ClassVar[str] = "bottleneck"
    backbone: ClassVar[str] = "none"

    seed: int = setting(
        0, "seed of the order of tiles, of all noise and times and of the first weights", low=0, high=MAX_SEED
    )

    condition_dropout: float = setting(
        0.1, "share of the tiles that are shown a learnt embedding of no profile, which guidance needs", low=0, high=0.9
    )

    block_px: int = setting(
        2,
        "side of the pixel blocks that the network's grid is made of; a power of two",
        low=1,
        high=16,
        role="architecture",
    )
    width: int = setting(64, "channels of the network's first feature map", low=8, role="architecture")
    levels: int = setting(
        3,
        "resolutions of the network, each of half the side; the second has twice the channels, later ones no more",
        low=1,
        high=6,
        role="architecture",
    )
    layers: int = setting(2, "residual blocks a level", low=1, high=8, role="architecture")
    attention: bool = setting(True, "self-attention at the coarsest level", role="architecture")

    time_mean: float = setting(0.0, "mean of the normal whose logistic is the time, 1 being noise", low=-5, high=5)
    time_sd: float = setting(1.0, "SD of that normal", low=0.01, high=5.0)
    lr: float = setting(4e-4, "Adam's learning rate", low=0.0)
    beta1: float = setting(0.9, "Adam's first beta", low=0.0, high=0.999)
    sampling_steps: int = setting(
        16, "steps of the solver, where a command says no other", low=1, high=1000, role="resume"
    )
    solver: str = setting(
        "heun",
        "solver that generates: euler calls the network once a step, heun twice",
        choices=("euler", "heun"),
        role="resume",
    )
    guidance: float = setting(
        1.0,
        "how far generated tiles go from no profile's velocity to the profile's; 1: to it",
        low=0.0,
        high=20.0,
        role="resume",
    )

    def check(self) -> None:
        if self.resolution & (self.resolution - 1) or self.block_px & (self.block_px - 1):
            raise ValueError(
                f"resolution and block_px must be powers of two, not {self.resolution} and {self.block_px}."
            )
        if self.grid >> (self.levels - 1) < 4:
            raise ValueError(
                f"levels {self.levels} halve the grid of {self.grid} blocks to fewer than 4; choose fewer levels."
            )
        if self.width % 8:
            raise ValueError(f"width must be a multiple of 8, not {self.width}: normalisation works on groups.")
        if self.guidance != 1 and not self.condition_dropout:
            raise ValueError(f"guidance {self.guidance:g} needs condition_dropout, which trains it.")

    @property
    def grid(self) -> int:
        """Side of the network's input, in blocks."""
        return self.resolution // self.block_px

    @property
    def channels(self) -> int:
        """Channels of the network's input and output: the pixels of a block."""
        return 3 * self.block_px**2
