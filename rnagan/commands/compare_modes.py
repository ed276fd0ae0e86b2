"""Train GAN, RNA-GAN and noise alone with the same settings, and draw the article's figures 5 and 4C.

Finished runs are kept; one that was broken off goes on.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_of
from rnagan.config.gan import GANConfig


@click.command(help=__doc__)
@options.plain_errors
@options.tiles(expression_required=True)
@options.vae("Run of rnagan train-vae, or its model folder.")
@options.out_folder("Folder of the three runs and the figures.")
@options.launch()
@config_of(GANConfig, "faithful")
def main(out: Path, launch: Path | None, config: GANConfig, **inputs: Any) -> None:
    from rnagan.article.modes import compare_modes
    from rnagan.training.tile_inputs import TileInputs

    options.echo(compare_modes(config, TileInputs(**inputs), out, launch))


if __name__ == "__main__":
    main()
