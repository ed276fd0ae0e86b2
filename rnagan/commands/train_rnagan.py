"""Train a GAN or an RNA-GAN on tile shards, also under accelerate launch.

Several processes: accelerate launch --config_file … -m rnagan.commands.train_rnagan …
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_of
from rnagan.config.gan import GANConfig


@click.command(help=__doc__)
@options.plain_errors
@options.tiles()
@options.vae("Run of rnagan train-vae, or its model folder; needed by mode rnagan, or --embedding.", required=False)
@options.embedding()
@click.option(
    "--init-from",
    type=options.PATH,
    help="An earlier run to start from: the same networks, with other tiles (a new tissue).",
)
@options.out("Run folder; an interrupted run in it goes on.")
@options.dry_run("Print the resolved config, the size of the run and what it may cost on GPUs; train nothing.")
@click.option("--gpu", help="With --dry-run: the GPU to forecast for, such as H200; without it, one of each kind.")
@config_of(GANConfig, "faithful", tagged=True)
def main(out: Path, dry_run: bool, gpu: str | None, config: GANConfig, tags: dict[str, str], **inputs: Any) -> None:
    if gpu is not None and not dry_run:
        raise click.UsageError("--gpu belongs to --dry-run; a run takes the GPUs that it is started on.")
    from rnagan.training.gan.forecast import ALL
    from rnagan.training.gan.train import train_gan
    from rnagan.training.tile_inputs import TileInputs

    if dry_run:
        options.echo_settings(config)
    options.end_run(train_gan(config, TileInputs(**inputs), out, dry_run, tags, (gpu or ALL) if dry_run else None))


if __name__ == "__main__":
    main()
