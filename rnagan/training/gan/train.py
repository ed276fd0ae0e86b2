"""One GAN run from paths."""

from collections.abc import Mapping
from pathlib import Path

from rnagan.config.gan import GANConfig
from rnagan.training.gan.forecast import forecast_lines, known_gpus
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.train_tiles import train_tiles


def train_gan(
    config: GANConfig,
    inputs: TileInputs,
    out: Path,
    dry_run: bool = False,
    tags: Mapping[str, str] | None = None,
    gpu: str | None = None,
) -> bool:
    """`train_tiles` of a GAN. `gpu`: of a dry run, the GPU whose cost is forecast (forecast.py), or None."""
    if gpu is None:
        return train_tiles(config, inputs, out, dry_run, tags)
    known_gpus(config, gpu)  # refuses an unknown one before anything is read

    def forecast(counted: GANConfig, width: int, processes: int, tissues: int) -> list[str]:
        return forecast_lines(counted, width, gpu, processes, tissues)

    return train_tiles(config, inputs, out, dry_run, tags, forecast)
