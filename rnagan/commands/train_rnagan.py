"""Train a GAN or an RNA-GAN on tile shards: accelerate launch --config_file launch_configs/… rnagan train-rnagan"""

import sys
from pathlib import Path

import click

from rnagan.commands.options import config_options, plain_errors, read_config, run_tags
from rnagan.config.base import preset_names
from rnagan.config.gan import GANConfig

STOPPED = 75  # sysexits' EX_TEMPFAIL: SIGTERM or SIGUSR1 stopped the run; started again, it goes on


@click.command(help=__doc__)
@click.option("--shards", required=True, help="Folder of tile shards, or its URL (rnagan build-tiles).")
@click.option("--cohort", type=Path, required=True, help="Cohort table (rnagan build-cohort).")
@click.option("--expression", type=Path, help="Expression .h5ad (rnagan build-expression); needed by mode rnagan.")
@click.option("--vae", type=Path, help="Run of rnagan train-vae; needed by mode rnagan.")
@click.option(
    "--init-from", type=Path, help="An earlier run to start from: the same networks, with other tiles (a new tissue)."
)
@click.option("--out", type=Path, required=True, help="Run folder; an interrupted run in it goes on.")
@click.option("--preset", type=click.Choice(preset_names(GANConfig)), default="faithful", show_default=True)
@click.option("--config", "config_file", type=Path, help="YAML with settings; flags win over it.")
@click.option("--sweep", envvar="RNAGAN_SWEEP", help="Runs of one name are one sweep's in MLflow. [env: RNAGAN_SWEEP]")
@click.option("--dry-run", is_flag=True, help="Print the resolved config and the size of the run, train nothing.")
@config_options(GANConfig)
@plain_errors
def main(
    shards: str,
    cohort: Path,
    expression: Path | None,
    vae: Path | None,
    init_from: Path | None,
    out: Path,
    preset: str,
    config_file: Path | None,
    sweep: str | None,
    dry_run: bool,
    settings: dict,
) -> None:
    config = read_config(GANConfig, config_file, settings, preset)
    from rnagan.training.gan.inputs import GANInputs
    from rnagan.training.gan.train import train_gan

    if dry_run:
        click.echo("".join(f"{name}: {value}\n" for name, value in config.to_dict().items()), nl=False)
    if not train_gan(
        config, GANInputs(shards, cohort, expression, vae, init_from), out, dry_run, run_tags(preset, sweep)
    ):
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
