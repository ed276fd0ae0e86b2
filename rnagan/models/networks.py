"""Networks of a config."""

from torch import nn

from rnagan.config.gan import GANConfig
from rnagan.models.conditioning import input_width
from rnagan.models.critics import Critic, DCCritic
from rnagan.models.generators import DCGenerator, UpsampleGenerator


def build_generator(config: GANConfig, condition_width: int) -> nn.Module:
    """The generator of a config, with fresh weights from torch's seeded generator."""
    kind = UpsampleGenerator if config.generator == "upsample" else DCGenerator
    return kind(input_width(config, condition_width), config.resolution, config.generator_width, config.generator_norm)


def build_critic(config: GANConfig, condition_width: int) -> nn.Module:
    """The critic of a config; it takes the condition only where the config shows it."""
    if config.critic_layout == "dcgan":
        return DCCritic(config.resolution, config.critic_width, config.critic_norm)
    shown = condition_width if config.conditional else 0
    return Critic(config.resolution, config.critic_width, config.critic_norm, shown)
