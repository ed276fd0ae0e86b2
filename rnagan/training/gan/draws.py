"""What a GAN's step draws at random for its images, all at once, so that a loader's threads can do it ahead."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from rnagan.config.gan import GANConfig
from rnagan.data.augment import draw_diffaugment, draw_jitter, draw_turns
from rnagan.data.packed import Row
from rnagan.models.conditioning import draw_noise, noise_width
from rnagan.runtime import rng
from rnagan.training.image_draws import ImageDraws
from rnagan.training.launch import dtype_of


class StepDraws(ImageDraws):
    """The draws of a config, by purpose, each addressed by image number (`rows`: their shapes for one image).

    noise       the generator's
    condition   standard normal, that of the condition
    turns       flips and quarter turns of real tiles (`draw_turns`)
    jitter      of real tiles' colours (`draw_jitter`)
    epsilon     where between real and generated the penalty is taken
    augment/real, augment/fake, augment/generator, features/real, features/fake
                shift and corner of DiffAugment
    """

    def __init__(self, config: GANConfig, condition_width: int) -> None:
        self.config, self.condition_width = config, condition_width
        dtype = dtype_of(config.precision)
        self.rows: dict[str, Row] = {"noise": Row((noise_width(config, condition_width),), dtype)}
        if config.mode == "rnagan" and config.condition == "bottleneck" and config.condition_noise:
            self.rows["condition"] = Row((condition_width,), dtype)
        if config.flips or config.quarter_turns:
            self.rows["turns"] = Row((3,), torch.uint8)
        if config.colour_jitter:
            self.rows["jitter"] = Row((4,), dtype)
        if config.pixel_loss == "wgan_gp":
            self.rows["epsilon"] = Row((1,), dtype)
        for name in self._augmentations():
            self.rows[name] = Row((4,), torch.int64)

    def fill(self, start: int, out: Mapping[str, NDArray]) -> None:
        """Draw for images `start` … `start + n − 1` into `out`, n rows of each purpose."""
        config, seed, count = self.config, self.config.seed, len(out["noise"])
        out["noise"][:] = draw_noise(config, "noise", start, count, self.condition_width, seed).numpy()
        if "condition" in self.rows:
            out["condition"][:] = rng.normal(seed, "condition", start, count, self.condition_width)
        if "turns" in self.rows:
            out["turns"][:] = draw_turns(seed, start, count)
        if "jitter" in self.rows:
            out["jitter"][:] = draw_jitter(seed, start, count)
        if "epsilon" in self.rows:
            out["epsilon"][:] = rng.uniform(seed, "epsilon", start, count, 1)
        for name in self._augmentations():
            out[name][:] = np.hstack(draw_diffaugment(seed, name, start, count, config.resolution))

    def _augmentations(self) -> list[str]:
        """Purposes of the draws of DiffAugment."""
        names: list[str] = []
        if self.config.pixel_loss != "none" and self.config.diffaugment != "none":
            names += ["augment/real", "augment/fake", "augment/generator"]
        if self.config.backbone != "none" and self.config.feature_diffaugment != "none":
            names += ["features/real", "features/fake"]
        return names
