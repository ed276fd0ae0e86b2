"""Tell real tiles apart in cross-validation: from scratch, from SimCLR's weights, from ImageNet's."""

from pathlib import Path

import click

from rnagan.commands.options import config_options, plain_errors, read_config
from rnagan.config.base import preset_names
from rnagan.config.classifier import ClassifierConfig


@click.command(help=__doc__)
@click.option("--shards", required=True, help="Folder of real tile shards, or its URL.")
@click.option("--cohort", type=Path, required=True, help="Cohort table; its column --label names the classes.")
@click.option("--out", type=Path, required=True, help="Folder for result.json, report.html, pictures, finished folds.")
@click.option("--pretrained", type=Path, help="Run of rnagan pretrain-simclr, to start from beside from scratch.")
@click.option("--imagenet", type=Path, help="torchvision's weights as safetensors, to start from too.")
@click.option("--preset", type=click.Choice(preset_names(ClassifierConfig)), default="paper", show_default=True)
@click.option("--config", "config_file", type=Path, help="YAML with settings; flags win over it.")
@click.option("--dry-run", is_flag=True, help="Print the resolved config, tiles and starts, train nothing.")
@config_options(ClassifierConfig)
@plain_errors
def main(
    shards: str,
    cohort: Path,
    out: Path,
    pretrained: Path | None,
    imagenet: Path | None,
    preset: str,
    config_file: Path | None,
    dry_run: bool,
    settings: dict,
) -> None:
    config = read_config(ClassifierConfig, config_file, settings, preset)
    from rnagan.classification.finetune import FinetuneInputs, finetune

    if dry_run:
        click.echo("".join(f"{name}: {value}\n" for name, value in config.to_dict().items()), nl=False)
    for line in finetune(config, FinetuneInputs(shards, cohort, pretrained, imagenet), out, dry_run):
        click.echo(line)


if __name__ == "__main__":
    main()
