"""Train a conditional flow on tile shards, also under accelerate launch.

Several processes: accelerate launch --config_file … -m rnagan.commands.train_flow …
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_of
from rnagan.config.flow import FlowConfig


@click.command(help=__doc__)
@options.plain_errors
@options.tiles(expression_required=True)
@options.vae("Run of rnagan train-vae, or its model folder; or give --embedding.", required=False)
@options.embedding()
@options.out("Run folder; an interrupted run in it goes on.")
@options.dry_run("Print the resolved config and the size of the run; train nothing.")
@config_of(FlowConfig, "faithful", tagged=True)
def main(out: Path, dry_run: bool, config: FlowConfig, tags: dict[str, str], **inputs: Any) -> None:
    from rnagan.training.tile_inputs import TileInputs
    from rnagan.training.train_tiles import train_tiles

    if dry_run:
        options.echo_settings(config)
    options.end_run(train_tiles(config, TileInputs(**inputs), out, dry_run, tags))


if __name__ == "__main__":
    main()
