"""Tiles generated from an external cohort's profiles: does a classifier of real tiles know their tissue (figure 4D)?"""

from pathlib import Path

import click

from rnagan.commands.options import config_options, plain_errors, read_config
from rnagan.config.base import preset_names
from rnagan.config.classifier import ClassifierConfig

SHOWN = ("per_class", "where", "backbone", "epochs", "batch_size", "lr", "weight_decay", "flips", "validation_share")
SHOWN += ("patience_epochs", "seed", "precision", "threads")


@click.command(help=__doc__)
@click.option("--model", type=Path, required=True, help="Run of rnagan train-rnagan, or its model folder.")
@click.option("--profiles", type=Path, required=True, help="The other cohort's .h5ad, with obs column tissue.")
@click.option("--shards", required=True, help="Folder of real tile shards, or its URL.")
@click.option("--cohort", type=Path, required=True, help="Cohort table of the model's training.")
@click.option("--out", type=Path, required=True, help="Folder for result.json, report.html and pictures.")
@click.option("--n", type=click.IntRange(min=2), default=100, show_default=True, help="Generated tiles a tissue.")
@click.option(
    "--tissue-map",
    multiple=True,
    help="A tissue that is called otherwise, external=ours; may be repeated. Or a CSV of columns external, ours.",
)
@click.option(
    "--preset", type=click.Choice(preset_names(ClassifierConfig)), default="paper_external", show_default=True
)
@click.option("--config", "config_file", type=Path, help="YAML with settings; flags win over it.")
@config_options(ClassifierConfig, SHOWN)
@plain_errors
def main(
    model: Path,
    profiles: Path,
    shards: str,
    cohort: Path,
    out: Path,
    n: int,
    tissue_map: tuple[str, ...],
    preset: str,
    config_file: Path | None,
    settings: dict,
) -> None:
    config = read_config(ClassifierConfig, config_file, settings, preset)
    from rnagan.classification.external_tiles import ExternalInputs, evaluate_external

    inputs = ExternalInputs(model, profiles, shards, cohort, tissue_map)
    for line in evaluate_external(config, inputs, out, n):
        click.echo(line)


if __name__ == "__main__":
    main()
