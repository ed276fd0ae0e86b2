"""Settings of SimCLR pretraining."""

import dataclasses

from rnagan.config.base import BACKBONES, NORMS, Config, setting
from rnagan.io.bounds import MAX_SEED


@dataclasses.dataclass(frozen=True)
class SimCLRConfig(Config):
    """SimCLR (Chen et al. 2020) on tiles. Defaults are the preset `paper`; it says where each value is from."""

    backbone: str = setting("resnet50", "ResNet of torchvision (article: ResNet-50)", choices=BACKBONES)
    norm: str = setting(
        "batch",
        "normalisation in the network: BatchNorm as in the article, or GroupNorm, alike on any number of processes",
        choices=NORMS,
    )
    projection: int = setting(128, "width of the projection, on which the loss is computed (Chen et al.)", low=2)
    resolution: int = setting(0, "side of a view, px; 0: that of the tiles", low=0, high=1024)
    epochs: int = setting(100, "passes of the tiles (article: 100)", low=1)
    batch_size: int = setting(
        256, "tiles a step, over all processes (Lightly's tutorial, whose optimiser the article's is)", low=2
    )
    lr: float = setting(6e-2, "SGD's highest learning rate; it falls as a cosine (article: 6e-2)", low=0.0)
    momentum: float = setting(0.9, "SGD's momentum (article: 0.9)", low=0.0, high=0.999)
    weight_decay: float = setting(5e-4, "SGD's weight decay (article: 5e-4)", low=0.0)
    temperature: float = setting(0.5, "temperature of the loss (Lightly's default)", low=0.01)
    colour_strength: float = setting(1.0, "strength of the colour jitter (Chen et al.)", low=0.0, high=2.0)
    smallest_crop: float = setting(0.08, "smallest share of a tile that a view shows (Chen et al.)", low=0.01, high=1.0)
    grey: float = setting(0.2, "probability that a view is grey (Chen et al.)", low=0.0, high=1.0)
    blur: float = setting(0.5, "probability that a view is blurred (Chen et al.)", low=0.0, high=1.0)
    vertical_flips: bool = setting(False, "flip views vertically too; tissue has no upside (Chen et al.: no)")
    tiles_per_slide: int = setting(5000, "first tiles of each shard that are used", low=1)
    window_slides: int = setting(1024, "shards that are open at a time, and so can meet in a batch", low=1, high=4096)
    where: str = setting("", "slides to use, by any column of the cohort table, where one is given")
    seed: int = setting(0, "seed of the first weights, the order of tiles and all augmentation", low=0, high=MAX_SEED)
    precision: str = setting(
        "auto",
        "bf16 where the machine computes in it, else float32; float64 is for equality tests",
        choices=("auto", "float64", "float32", "bf16"),
    )
    threads: int = setting(0, "CPU threads a process; 0 shares the cores", low=0, role="speed")
    wait_minutes: int = setting(
        60, "minutes that processes wait for one another, as while the main one saves", low=1, role="speed"
    )
    loader_workers: int = setting(
        0, "processes a process that make the views; 0: threads on all of its cores do", low=0, role="speed"
    )
    log_every: int = setting(2_560, "images between rows of metrics", low=1, role="resume")
    checkpoint_every: int = setting(20_000, "images between checkpoints", low=1, role="resume")
