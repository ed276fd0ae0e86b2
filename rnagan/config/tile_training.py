"""Settings that the trainings of all generators of tiles share."""

import dataclasses
from typing import ClassVar, Self

from rnagan.config.base import Config, setting
from rnagan.io.bounds import MAX_SEED


@dataclasses.dataclass(frozen=True)
class TileTrainingConfig(Config):
    """Which tiles are shown in which order, how they are read and changed, the clock, and what a run logs, validates
    and keeps. A family of generators adds its own, and says some of these in its own words or with another default."""

    takes_back: ClassVar = {"images": {"epochs": 0}}  # --images shortens a preset that counts in epochs

    resolution: int = setting(64, "side of a generated tile, px; a power of two", low=32, high=512, role="architecture")
    images: int = setting(2_000_000, "tiles shown to the network in the whole run", low=1, role="resume")
    epochs: int = setting(
        0, "instead of images: passes of the tiles in use; 0: as many images as images says", low=0, role="resume"
    )
    batch_size: int = setting(64, "tiles a step, over all processes", low=2, role="resume")
    seed: int = setting(0, "seed of the order of tiles, of all noise and of the first weights", low=0, high=MAX_SEED)
    condition_units: int = setting(
        64, "active latent units that pass the bottleneck at most", low=1, role="architecture"
    )
    condition_noise: float = setting(
        0.15, "SD of the normal noise on the condition in training, in SDs of the training split", low=0.0
    )
    nuisance: str = setting(
        "none",
        "second condition, which the profile doesn't explain: how the section or slide is stained; generated tiles "
        "have the average stain, or a named section's",
        choices=("none", "section_stain"),
        role="architecture",
    )
    tile_order: str = setting("mixed", "donors mixed in every batch, or slide by slide", choices=("mixed", "by_slide"))
    beta1: float = setting(0.0, "Adam's first beta", low=0.0, high=0.999)
    beta2: float = setting(0.99, "Adam's second beta", low=0.0, high=0.9999)
    ema_half_life: int = setting(
        20_000, "half-life of the averaged network, in images, at batch ema_batch; 0 keeps no average", low=0
    )
    ema_batch: int = setting(
        64,
        "batch_size that ema_half_life is for: another one scales it, as in StyleGAN2-ADA; 0: it is never scaled",
        low=0,
        role="resume",
    )

    flips: bool = setting(True, "random horizontal and vertical flips of tiles")
    quarter_turns: bool = setting(True, "random quarter turns of tiles")
    shifts: bool = setting(True, "random shifts of real tiles within the margin that they are stored with, if any")

    shuffle_profiles: bool = setting(
        False, "give each slide the profile of another donor of its tissue: the null of every claim"
    )
    tiles_per_slide: int = setting(600, "first tiles of each shard that are used (article: 600)", low=1)
    window_slides: int = setting(1024, "shards that are open at a time, and so can meet in a batch", low=1, high=4096)
    where: str = setting("", "slides to use, by any column of the cohort table: 'tissue=Lung,Colon; age>=50'")
    tissue_weights: str = setting(
        "balanced", "balanced: every tissue alike; natural: every tile alike; Lung=2,Colon=1; or a table tissue,weight"
    )
    loader_threads: int = setting(
        0,
        "threads a process that read and decode tiles; 0: its cores, at most 8, or 32 for a remote set",
        low=0,
        role="speed",
    )
    loader_workers: int = setting(
        0, "processes a process that do it instead; 0 is faster unless transforms are heavy", low=0, role="speed"
    )
    prefetch_batches: int = setting(2, "batches made ahead (of each worker process)", low=1, high=64, role="speed")
    on_corrupt: str = setting(
        "refuse",
        "a damaged tile stops the run, or a neighbour stands in and it is listed",
        choices=("refuse", "skip"),
        role="resume",
    )
    max_corrupt: float = setting(
        0.001,
        "with skip: the share of damaged tiles at which the run stops all the same",
        low=0.0,
        high=1.0,
        role="resume",
    )
    precision: str = setting(
        "auto",
        "bf16 where the machine computes in it, else float32; fp16, on GPUs only, is experimental",
        choices=("auto", "float64", "float32", "bf16", "fp16"),
        role="resume",
    )
    compile: bool = setting(False, "the network compiled by torch.compile at the start", role="speed")
    threads: int = setting(0, "CPU threads a process; 0 shares the cores", low=0, role="speed")
    wait_minutes: int = setting(
        60, "minutes that processes wait for one another, as while the main one encodes or saves", low=1, role="speed"
    )
    log_every: int = setting(4_000, "images between rows of metrics", low=1, role="resume")
    sample_every: int = setting(40_000, "images between sample grids", low=1, role="resume")
    checkpoint_every: int = setting(40_000, "images between checkpoints", low=1, role="resume")
    keep_checkpoints: int = setting(2, "newest checkpoints that are kept", low=1, role="resume")
    validate_every: int = setting(
        200_000, "images between validations on the validation donors; 0: never", low=0, role="resume"
    )
    validation_tiles: int = setting(
        2_000, "real tiles, and as many generated ones, in a validation; its names tell the count", low=16
    )
    best_by: str = setting(
        "frechet",
        "whose best validation is kept as checkpoint and as model-best: lowest Fréchet distance, highest faithfulness",
        choices=("frechet", "faithfulness", "none"),
    )

    def counted_in_images(self, epoch_length: int) -> Self:
        """With the images that `epochs` passes of so many tiles are, where epochs are given: the clock is images."""
        return self.replace(images=self.epochs * epoch_length) if self.epochs else self

    @property
    def ema_images(self) -> float:
        """Half-life of the averaged network at this batch size, in images: as many steps of any size."""
        return self.ema_half_life * (self.batch_size / self.ema_batch if self.ema_batch else 1)
