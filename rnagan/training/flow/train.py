"""One run of a flow from paths."""

from collections.abc import Mapping
from pathlib import Path

from rnagan.config.flow import FlowConfig
from rnagan.training.gan.inputs import GANInputs
from rnagan.training.train_tiles import train_tiles


def train_flow(
    config: FlowConfig, inputs: GANInputs, out: Path, dry_run: bool = False, tags: Mapping[str, str] | None = None
) -> bool:
    """`train_tiles` of a flow."""
    return train_tiles(config, inputs, out, dry_run, tags)
