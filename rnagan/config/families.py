"""The settings of each family of generators."""

from rnagan.config.flow import FlowConfig
from rnagan.config.gan import GANConfig

TileConfig = GANConfig | FlowConfig
CONFIGS: dict[str, type[TileConfig]] = {"gan": GANConfig, "flow": FlowConfig}
