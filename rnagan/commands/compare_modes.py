"""Train GAN, RNA-GAN and noise alone alike, and draw the article's figures 5 and 4C; what is done is kept."""

from pathlib import Path

import click

from rnagan.commands.options import config_options, plain_errors, read_config
from rnagan.config.base import preset_names
from rnagan.config.gan import GANConfig


@click.command(help=__doc__)
@click.option("--shards", required=True, help="Folder of tile shards, or its URL (rnagan build-tiles).")
@click.option("--cohort", type=Path, required=True, help="Cohort table (rnagan build-cohort).")
@click.option("--expression", type=Path, required=True, help="Expression .h5ad (rnagan build-expression).")
@click.option("--vae", type=Path, required=True, help="Run of rnagan train-vae.")
@click.option("--out", type=Path, required=True, help="Folder of the three runs and the figures.")
@click.option("--preset", type=click.Choice(preset_names(GANConfig)), default="faithful", show_default=True)
@click.option("--config", "config_file", type=Path, help="YAML with settings; flags win over it.")
@click.option("--launch", type=Path, help="Config of accelerate's launcher (launch_configs/…); else one process.")
@config_options(GANConfig)
@plain_errors
def main(
    shards: str,
    cohort: Path,
    expression: Path,
    vae: Path,
    out: Path,
    preset: str,
    config_file: Path | None,
    launch: Path | None,
    settings: dict,
) -> None:
    config = read_config(GANConfig, config_file, settings, preset)
    from rnagan.article.modes import compare_modes
    from rnagan.training.gan.inputs import GANInputs

    script = Path(__file__).resolve().parent / "train_rnagan.py"
    click.echo(compare_modes(config, GANInputs(shards, cohort, expression, vae), out, script, launch))


if __name__ == "__main__":
    main()
