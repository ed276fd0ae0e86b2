"""Settings of the GAN and the RNA-GAN."""

import dataclasses
from typing import ClassVar

from rnagan.config.base import setting
from rnagan.config.tile_training import TileTrainingConfig


@dataclasses.dataclass(frozen=True)
class GANConfig(TileTrainingConfig):
    """GAN and RNA-GAN training. Defaults are the preset `faithful`; presets/gan.*.yaml say where each value is from."""

    before: ClassVar = {
        "pixel_loss": "wgan_gp",
        "backbone": "none",
        "generator_turns": False,
        "generator_grain": False,
        "ema_batch": 0,
        "nuisance": "none",
    }
    follows: ClassVar = {
        "mode": "",
        "accumulate": "batch_size",
        "condition": "seed",
        "noise_units": "nuisance",
        "generator": "tile_order",
        "colour_jitter": "shifts",
        "penalty_precision": "precision",
    }

    mode: str = setting(
        "rnagan",
        "what the generator sees: a profile and noise; normal noise; uniform noise in ±noise_range (article, 4C)",
        choices=("rnagan", "gan", "noise_only"),
        role="architecture",
    )
    resolution: int = setting(
        256, "side of a generated tile, px; a power of two (article: 256)", low=32, high=512, role="architecture"
    )
    images: int = setting(2_000_000, "real tiles shown to the critic in the whole run", low=1, role="resume")
    batch_size: int = setting(64, "real tiles a critic step, over all processes", low=2, role="resume")
    accumulate: int = setting(
        1,
        "parts of a process's batch that pass the networks one after another, to need less memory",
        low=1,
        role="speed",
    )

    condition: str = setting(
        "bottleneck",
        "what the generator gets of a profile: active latent units beside the noise, or latent + noise as in the paper",
        choices=("bottleneck", "latent_plus_noise"),
        role="architecture",
    )
    noise_units: int = setting(
        64,
        "width of the generator's own noise; where it is added to a latent, it has the latent's",
        low=1,
        role="architecture",
    )
    noise_range: float = setting(
        0.3, "half-range of the uniform noise of latent_plus_noise and noise_only", low=0.0, role="architecture"
    )
    batch_standardise: bool = setting(
        False, "standardise the generator's input over the batch: cancels the profile, as released", role="architecture"
    )

    generator: str = setting(
        "upsample",
        "up-sample and convolve; residual blocks without normalisation; or DCGAN's transposed convolutions",
        choices=("upsample", "residual", "dcgan"),
        role="architecture",
    )
    generator_width: int = setting(32, "channels of the generator's last feature map", low=4, role="architecture")
    generator_norm: str = setting(
        "group", "normalisation in the generator", choices=("group", "batch", "none"), role="architecture"
    )
    generator_turns: bool = setting(
        False,
        "mirror and turn generated tiles by their noise, as real ones by flips and quarter_turns: tissue has no up",
        role="architecture",
    )
    generator_grain: bool = setting(
        False,
        "noise maps up to the tile's own side, not up to half of it: fine detail without a pattern of 2 px",
        role="architecture",
    )
    critic: str = setting(
        "projection",
        "critic that is shown the condition, or one that sees the image alone",
        choices=("projection", "image_only"),
        role="architecture",
    )
    critic_width: int = setting(32, "channels of the critic's first feature map", low=4, role="architecture")
    critic_norm: str = setting("none", "normalisation in the critic", choices=("none", "batch"), role="architecture")
    critic_layout: str = setting(
        "all_scales",
        "a score from the means of all scales' features, of strided convolutions or of residual blocks; or DCGAN's "
        "convolutions down to a score",
        choices=("all_scales", "residual", "dcgan"),
        role="architecture",
    )

    pixel_loss: str = setting(
        "wgan_gp",
        "loss of the critic on pixels: Wasserstein with gradient penalty, or relativistic pairs with R1 and R2; none: "
        "no such critic",
        choices=("wgan_gp", "relativistic", "none"),
        role="architecture",
    )
    pixel_weight: float = setting(1.0, "weight of the critic on pixels in the generator's loss", low=0.0)
    backbone: str = setting(
        "none",
        "frozen network on whose maps a second critic works: efficientnet_lite0, or one that a package offers; none: "
        "no such critic",
        role="architecture",
    )
    backbone_px: int = setting(
        128, "side to which the backbone's tiles are brought, px", low=32, high=1024, role="architecture"
    )
    feature_weight: float = setting(1.0, "weight of the critic on features in the generator's loss", low=0.0)
    feature_lr: float = setting(2e-4, "Adam's learning rate of the critic on features", low=0.0)
    feature_diffaugment: str = setting(
        "translation,cutout",
        "what real and generated tiles go through before the backbone, or none",
        choices=("translation,cutout", "none"),
    )
    penalty_weight: float = setting(
        10.0, "weight of the gradient penalty; γ of R1 and R2 where pairs are relativistic", low=0.0
    )
    penalty_every: int = setting(
        4, "one tile in so many pays the gradient penalty, which is half of a step's cost", low=1, high=64
    )
    penalty_norm: str = setting(
        "per_sample",
        "one gradient norm a sample, or one over the whole batch as released",
        choices=("per_sample", "whole_batch"),
    )
    penalty_step: str = setting(
        "joint",
        "penalty in one backward with the scores, or a step of its own as released",
        choices=("joint", "separate"),
    )
    critic_steps: int = setting(1, "critic steps for one generator step", low=1)
    generator_lr: float = setting(4e-4, "Adam's learning rate of the generator", low=0.0)
    critic_lr: float = setting(4e-4, "Adam's learning rate of the critic on pixels", low=0.0)
    ema_half_life: int = setting(
        20_000, "half-life of the averaged generator, in images, at batch ema_batch; 0 keeps no average", low=0
    )

    flips: bool = setting(True, "random horizontal and vertical flips of real tiles")
    quarter_turns: bool = setting(True, "random quarter turns of real tiles")
    colour_jitter: float = setting(
        0.0, "strength of brightness, contrast, saturation and hue jitter of real tiles", low=0.0, high=1.0
    )
    diffaugment: str = setting(
        "translation,cutout",
        "what real and generated tiles go through before the critic on pixels, or none",
        choices=("translation,cutout", "none"),
    )

    penalty_precision: str = setting(
        "float32",
        "what the penalty's convolutions compute in: float32 (float64 where precision is), tf32 (GPUs) or bf16",
        choices=("float32", "tf32", "bf16"),
        role="resume",
    )
    compile: bool = setting(
        False, "networks compiled by torch.compile at the start, but for the gradient penalty", role="speed"
    )

    def check(self) -> None:
        if self.best_by == "faithfulness" and self.mode != "rnagan":
            raise ValueError(f"best_by faithfulness needs mode rnagan, not {self.mode}; choose frechet or none.")
        if self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 32 to 512, not {self.resolution}.")
        if self.critic == "projection" and self.condition == "latent_plus_noise":
            raise ValueError(
                "critic projection needs condition bottleneck; choose critic image_only for latent_plus_noise."
            )
        if self.critic == "projection" and self.critic_layout == "dcgan":
            raise ValueError(
                "critic projection needs critic_layout all_scales or residual; DCGAN's sees the image alone."
            )
        if self.pixel_loss == "none" and self.backbone == "none":
            raise ValueError("pixel_loss none and backbone none leave no critic; choose one of them.")
        if self.pixel_loss != "wgan_gp" and (self.penalty_step, self.penalty_norm) != ("joint", "per_sample"):
            raise ValueError("penalty_step separate and penalty_norm whole_batch belong to pixel_loss wgan_gp.")
        if self.backbone != "none" and (self.critic_norm == "batch" or self.penalty_step == "separate"):
            raise ValueError("critic_norm batch and penalty_step separate have no second critic: leave backbone none.")
        if self.generator == "residual" and self.generator_norm != "none":
            raise ValueError("generator residual has no normalisation: set generator_norm none.")
        if self.critic_layout == "residual" and self.critic_norm != "none":
            raise ValueError("critic_layout residual has no normalisation: set critic_norm none.")
        if self.generator_turns and (self.generator == "dcgan" or not (self.flips and self.quarter_turns)):
            raise ValueError("generator_turns needs generator upsample or residual, flips and quarter_turns.")
        if self.generator_grain and self.generator == "dcgan":
            raise ValueError("generator_grain needs generator upsample or residual; DCGAN's has no noise maps.")
        if self.batch_size % self.penalty_every:
            raise ValueError(f"penalty_every ({self.penalty_every}) must divide batch_size ({self.batch_size}).")
        if self.penalty_precision != "float32":
            if self.penalty_step == "separate" or self.critic_norm == "batch":
                raise ValueError(
                    f"penalty_precision {self.penalty_precision} needs penalty_step joint and critic_norm none; choose "
                    "float32."
                )
            if self.precision == "float64":
                raise ValueError(f"penalty_precision {self.penalty_precision} rounds float64; choose float32.")
        if self.nuisance != "none" and (self.mode != "rnagan" or self.condition != "bottleneck"):
            raise ValueError(
                f"nuisance {self.nuisance} needs mode rnagan and condition bottleneck, beside which it is."
            )
        if self.batch_standardise and self.condition != "latent_plus_noise":
            raise ValueError("batch_standardise belongs to condition latent_plus_noise.")
        if self.shuffle_profiles and self.mode != "rnagan":
            raise ValueError(f"shuffle_profiles needs mode rnagan; mode {self.mode} sees no profiles.")
        if self.accumulate > 1 and self.batch_wide:
            raise ValueError(f"accumulate cuts a batch, and {self.batch_wide[0]} needs it whole; set accumulate 1.")

    @property
    def batch_wide(self) -> list[str]:
        """Settings that make a tile's gradient depend on the tiles beside it, so that no batch can be cut in parts."""
        wide = {
            "batch_standardise": self.batch_standardise,
            "penalty_step separate": self.penalty_step == "separate",
            "penalty_norm whole_batch": self.penalty_norm == "whole_batch",
            "critic_norm batch": self.critic_norm == "batch",
            "generator_norm batch": self.generator_norm == "batch",
        }
        return [name for name, is_so in wide.items() if is_so]

    @property
    def conditional(self) -> bool:
        """Whether the critic is shown the condition."""
        return self.mode == "rnagan" and self.critic == "projection"
