"""Classify real tiles in cross-validation: from scratch, from SimCLR's weights, from ImageNet's."""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.config.classifier import ClassifierConfig


@click.command(help=__doc__)
@options.plain_errors
@options.shards()
@click.option("--cohort", type=options.PATH, required=True, help="Cohort table; its column --label names the classes.")
@options.out_folder("Folder for result.json, report.html, pictures, finished folds.")
@click.option(
    "--pretrained", type=options.PATH, help="Run of rnagan pretrain-simclr: the folds start from its weights too."
)
@click.option(
    "--imagenet", type=options.PATH, help="torchvision's weights as safetensors: the folds start from them too."
)
@options.dry_run("Print the resolved config, tiles and starts, train nothing.")
@options.device()
@options.config_of(ClassifierConfig, "paper")
def main(out: Path, dry_run: bool, config: ClassifierConfig, device: Any, **inputs: Any) -> None:
    from rnagan.classification.finetune import FinetuneInputs, finetune

    if dry_run:
        options.echo_settings(config)
    options.echo_lines(finetune(config, FinetuneInputs(**inputs), out, dry_run, device))


if __name__ == "__main__":
    main()
