"""Pretrain a backbone on tiles with SimCLR, also under accelerate launch.

Several processes: accelerate launch --config_file … -m rnagan.commands.pretrain_simclr …
"""

from pathlib import Path

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_of
from rnagan.config.simclr import SimCLRConfig


@click.command(help=__doc__)
@options.plain_errors
@options.shards("rnagan generate-tiles --format shards, or rnagan build-tiles")
@click.option(
    "--cohort", type=options.PATH, help="Cohort table of real tiles: only slides of its training split are used."
)
@options.out("Run folder; an interrupted run in it goes on.")
@options.dry_run("Print the resolved config and the size of the run, train nothing.")
@config_of(SimCLRConfig, "paper")
def main(shards: str, cohort: Path | None, out: Path, dry_run: bool, config: SimCLRConfig) -> None:
    from rnagan.training.simclr.train import pretrain_simclr

    if dry_run:
        options.echo_settings(config)
    options.end_run(pretrain_simclr(config, shards, out, cohort, dry_run))


if __name__ == "__main__":
    main()
