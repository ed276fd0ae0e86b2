"""Simulate a cohort with known truth: slides, expression as GTEx writes it, and the truth beside them."""

from pathlib import Path

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_options
from rnagan.config.base import resolve
from rnagan.config.simulation import SimulationConfig


@click.command(help=__doc__)
@options.plain_errors
@options.out_folder("Folder of the cohort.")
@click.option(
    "--processes", type=click.IntRange(min=1), default=2, show_default=True, help="Slides generated at a time."
)
@config_options(SimulationConfig)
def main(out: Path, processes: int, settings: dict) -> None:
    config = resolve(SimulationConfig, settings)
    from rnagan.simulation.cohort import simulate_cohort

    options.echo(simulate_cohort(config, out, processes))


if __name__ == "__main__":
    main()
