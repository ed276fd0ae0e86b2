"""Train the β-VAE on an expression file: `rnagan train-vae`, or the same under `accelerate launch`."""

import click

from rnagan.commands.options import config_options, plain_errors, read_config, run_tags
from rnagan.config.base import preset_names
from rnagan.config.vae import VAEConfig


@click.command()
@click.option(
    "--expression",
    type=click.Path(),
    required=True,
    help="The .h5ad of rnagan build-expression, or a folder or URL of rnagan build-profiles, which is streamed.",
)
@click.option("--cohort", type=click.Path(), help="Cohort table with donor, tissue and split of streamed profiles.")
@click.option("--out", type=click.Path(), required=True, help="Folder of the run; the product is its folder model.")
@click.option("--preset", type=click.Choice(preset_names(VAEConfig)), default="faithful", show_default=True)
@click.option("--config", "config_file", type=click.Path(), help="YAML of settings: over the preset, under options.")
@click.option("--sweep", envvar="RNAGAN_SWEEP", help="Runs of one name are one sweep's in MLflow. [env: RNAGAN_SWEEP]")
@click.option("--dry-run", is_flag=True, help="Print the resolved settings, profiles and steps, and stop.")
@config_options(VAEConfig)
@plain_errors
def main(
    expression: str,
    cohort: str | None,
    out: str,
    preset: str,
    config_file: str | None,
    sweep: str | None,
    dry_run: bool,
    settings: dict,
) -> None:
    """Train a β-VAE. Run again with the same settings, it goes on where it stopped."""
    from pathlib import Path

    from rnagan.training.vae.data import VAEInputs
    from rnagan.training.vae.train import describe, train_vae

    config = read_config(VAEConfig, config_file, settings, preset)
    inputs = VAEInputs(expression, Path(cohort) if cohort else None)
    if dry_run:
        for line in describe(config, inputs):
            click.echo(line)
    else:
        train_vae(config, inputs, Path(out), run_tags(preset, sweep))


if __name__ == "__main__":
    main()
