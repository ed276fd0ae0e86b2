"""Pretrain a backbone on tiles with SimCLR: accelerate launch --config_file … rnagan pretrain-simclr"""

import sys
from pathlib import Path

import click

from rnagan.commands.options import config_options, plain_errors, read_config
from rnagan.config.base import preset_names
from rnagan.config.simclr import SimCLRConfig

STOPPED = 75  # sysexits' EX_TEMPFAIL: SIGTERM or SIGUSR1 stopped the run; started again, it goes on


@click.command(help=__doc__)
@click.option("--shards", required=True, help="Folder of tile shards, or its URL.")
@click.option("--cohort", type=Path, help="Cohort table of real tiles: only slides of its training split are used.")
@click.option("--out", type=Path, required=True, help="Run folder; an interrupted run in it goes on.")
@click.option("--preset", type=click.Choice(preset_names(SimCLRConfig)), default="paper", show_default=True)
@click.option("--config", "config_file", type=Path, help="YAML with settings; flags win over it.")
@click.option("--dry-run", is_flag=True, help="Print the resolved config and the size of the run, train nothing.")
@config_options(SimCLRConfig)
@plain_errors
def main(
    shards: str,
    cohort: Path | None,
    out: Path,
    preset: str,
    config_file: Path | None,
    dry_run: bool,
    settings: dict,
) -> None:
    config = read_config(SimCLRConfig, config_file, settings, preset)
    from rnagan.training.simclr.train import pretrain_simclr

    if dry_run:
        click.echo("".join(f"{name}: {value}\n" for name, value in config.to_dict().items()), nl=False)
    if not pretrain_simclr(config, shards, out, cohort, dry_run):
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
