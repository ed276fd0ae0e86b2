"""What a reproduction will cost: images, steps and hours of each experiment, from rates measured on this machine."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from rnagan.config.classifier import ClassifierConfig
from rnagan.config.gan import GANConfig
from rnagan.config.reproduction import Settings
from rnagan.config.vae import VAEConfig
from rnagan.evaluation.features import make_extractor
from rnagan.runtime.devices import choose_device
from rnagan.training.step_rate import (
    TrainingStep,
    backbone_step,
    condition_width,
    items_a_second,
    measure,
    vae_step,
)

SECONDS = 6.0  # that a rate is measured for, about, once it is warm
MODES = 3  # GAN, RNA-GAN, noise alone
STARTS = 2  # of the classifier: from scratch, and from SimCLR's weights


class Sizes(NamedTuple):
    """Of a cohort: training profiles and their genes, tiles of an epoch, classes, test tiles, side of a tile in px."""

    profiles: int
    genes: int
    epoch_tiles: int
    classes: int
    test_tiles: int
    tile_px: int


class Work(NamedTuple):
    """Of one experiment: `items` that go through its networks, in `steps` batches, at `rate` items a second (None where
    that couldn't be measured, and why)."""

    experiment: str
    items: int
    unit: str
    steps: int
    rate: float | None
    why: str = ""

    @property
    def hours(self) -> float | None:
        return None if self.rate is None else self.items / self.rate / 3600


def costs(settings: Settings, sizes: Sizes, external: bool) -> list[Work]:
    """Of every experiment that takes long, in order; it measures each network for some seconds."""
    vae, gan, sized = settings.vae, settings.gan.counted_in_images(sizes.epoch_tiles), settings.evaluation
    passed = sizes.profiles * vae.epochs
    made = MODES * gan.images
    work = [
        _work("vae", passed, "profiles", vae.batch_size, lambda: _vae_rate(vae, sizes.genes)),
        _work("modes", made, "images", gan.batch_size, lambda: _gan_rate(gan)),
        _work(
            "scores",
            min(sizes.test_tiles, sized.fid_tiles) + 2 * sized.fid_tiles,  # of GAN and RNA-GAN
            "tiles",
            32,
            lambda: _extractor_rate(sized.extractor, sized.weights or None, gan.resolution),
        ),
    ]
    if external:
        shown = int(_tiles(settings.external, sizes) * (1 - settings.external.validation_share))
        work.append(_classifier_work("external", settings.external, shown, sizes.tile_px))
    views = 2 * sized.pretraining_tiles * settings.simclr.epochs
    simclr = settings.simclr
    side = simclr.resolution or gan.resolution
    work.append(
        _work(
            "simclr",
            views,
            "views",
            2 * simclr.batch_size,
            lambda: _backbone_rate(simclr.backbone, simclr.norm, side, min(2 * simclr.batch_size, 32)),
        )
    )
    tested = settings.classifier
    shown = STARTS * _tiles(tested, sizes) * (tested.folds - 1)
    work.append(_classifier_work("classifier", tested, shown, sizes.tile_px))
    return work


def _tiles(config: ClassifierConfig, sizes: Sizes) -> int:
    return config.per_class * sizes.classes


def _classifier_work(name: str, config: ClassifierConfig, tiles: int, tile_px: int) -> Work:
    side, batch = config.resolution or tile_px, config.batch_size

    def rate() -> float:
        return _backbone_rate(config.backbone, config.norm, side, batch)

    return _work(name, tiles * config.epochs, "tiles", batch, rate)


def _work(experiment: str, items: int, unit: str, batch: int, measured: Callable[[], float]) -> Work:
    steps = -(-items // batch)
    try:
        return Work(experiment, items, unit, steps, measured())
    except (OSError, ValueError, RuntimeError) as error:  # weights that aren't there, memory that doesn't suffice
        return Work(experiment, items, unit, steps, None, str(error).splitlines()[0])


def _vae_rate(config: VAEConfig, genes: int) -> float:
    return items_a_second(vae_step(config, genes, choose_device()), SECONDS)


def _gan_rate(config: GANConfig) -> float:
    return measure(TrainingStep(config, condition_width(config)), SECONDS)[1]


def _extractor_rate(name: str, weights: str | None, side: int) -> float:
    extractor = make_extractor(name, weights)
    tiles = torch.randint(0, 256, (32, side, side, 3), dtype=torch.uint8).numpy()
    return items_a_second(lambda: len(extractor(tiles)), SECONDS)


def _backbone_rate(name: str, norm: str, side: int, batch_size: int) -> float:
    return items_a_second(backbone_step(name, norm, side, batch_size, choose_device()), SECONDS)
