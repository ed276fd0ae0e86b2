"""Settings of the flow."""

import dataclasses
from typing import Any, ClassVar, Self

from rnagan.config.base import Config, setting
from rnagan.config.gan import GANConfig
from rnagan.io.bounds import MAX_SEED

_OF_GAN = {field.name: field for field in dataclasses.fields(GANConfig)}


def _as_gan(name: str, default: Any = None) -> Any:
    """The GAN's setting of this name: its meaning, bounds and role, and its default unless another is given."""
    field = _OF_GAN[name]
    return setting(field.default if default is None else default, **field.metadata)


@dataclasses.dataclass(frozen=True)
class FlowConfig(Config):
    """Training of a conditional rectified flow. Defaults are the preset `faithful`; presets/flow.*.yaml say where each
    value is from."""

    takes_back: ClassVar = {"images": {"epochs": 0}}  # --images shortens a preset that counts in epochs
    # What is so of every flow, for what it shares with the GAN.
    mode: ClassVar[str] = "rnagan"
    condition: ClassVar[str] = "bottleneck"
    backbone: ClassVar[str] = "none"

    resolution: int = setting(64, "side of a generated tile, px; a power of two", low=32, high=512, role="architecture")
    images: int = setting(2_000_000, "tiles shown to the network in the whole run", low=1, role="resume")
    epochs: int = _as_gan("epochs")
    batch_size: int = setting(64, "tiles a step, over all processes", low=2, role="resume")
    seed: int = setting(0, "seed of the order of tiles, of all noise and times and of the first weights", high=MAX_SEED)

    condition_units: int = _as_gan("condition_units")
    condition_noise: float = _as_gan("condition_noise")
    condition_dropout: float = setting(
        0.1, "share of the tiles that are shown a learnt embedding of no profile, which guidance needs", low=0, high=0.9
    )
    nuisance: str = _as_gan("nuisance")
    tile_order: str = _as_gan("tile_order")

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
    beta1: float = _as_gan("beta1", 0.9)
    beta2: float = _as_gan("beta2")
    ema_half_life: int = setting(
        20_000, "half-life of the averaged network, in images, at batch ema_batch; 0 keeps no average", low=0
    )
    ema_batch: int = _as_gan("ema_batch")

    flips: bool = setting(True, "random horizontal and vertical flips of tiles")
    quarter_turns: bool = setting(True, "random quarter turns of tiles")
    shifts: bool = _as_gan("shifts")

    shuffle_profiles: bool = _as_gan("shuffle_profiles")
    tiles_per_slide: int = _as_gan("tiles_per_slide")
    window_slides: int = _as_gan("window_slides")
    where: str = _as_gan("where")
    tissue_weights: str = _as_gan("tissue_weights")
    loader_threads: int = _as_gan("loader_threads")
    loader_workers: int = _as_gan("loader_workers")
    prefetch_batches: int = _as_gan("prefetch_batches")
    on_corrupt: str = _as_gan("on_corrupt")
    max_corrupt: float = _as_gan("max_corrupt")

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

    precision: str = _as_gan("precision")
    compile: bool = setting(False, "the network compiled by torch.compile at the start", role="speed")
    threads: int = _as_gan("threads")
    wait_minutes: int = _as_gan("wait_minutes")
    log_every: int = _as_gan("log_every")
    sample_every: int = _as_gan("sample_every")
    checkpoint_every: int = _as_gan("checkpoint_every")
    keep_checkpoints: int = _as_gan("keep_checkpoints")
    validate_every: int = _as_gan("validate_every")
    validation_tiles: int = _as_gan("validation_tiles")
    best_by: str = _as_gan("best_by")

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

    def counted_in_images(self, epoch_length: int) -> Self:
        """With the images that `epochs` passes of so many tiles are, where epochs are given: the clock is images."""
        return self.replace(images=self.epochs * epoch_length) if self.epochs else self

    @property
    def ema_images(self) -> float:
        """Half-life of the averaged network at this batch size, in images: as many steps of any size."""
        return self.ema_half_life * (self.batch_size / self.ema_batch if self.ema_batch else 1)
