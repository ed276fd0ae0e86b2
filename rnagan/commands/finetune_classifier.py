"""Classify real tiles in cross-validation: from scratch, from SimCLR's weights, from ImageNet's."""

from pathlib import Path
from typing import Any

import click

from rnagan.commands.options import (
    config_of,
    dry_run_option,
    echo_lines,
    echo_settings,
    out_option,
    plain_errors,
    shards_option,
)
from rnagan.config.classifier import ClassifierConfig


@click.command(help=__doc__)
@plain_errors
@shards_option()
@click.option("--cohort", type=Path, required=True, help="Cohort table; its column --label names the classes.")
@out_option("Folder for result.json, report.html, pictures, finished folds.")
@click.option("--pretrained", type=Path, help="Run of rnagan pretrain-simclr, to start from beside from scratch.")
@click.option("--imagenet", type=Path, help="torchvision's weights as safetensors, to start from too.")
@dry_run_option("Print the resolved config, tiles and starts, train nothing.")
@config_of(ClassifierConfig, "paper")
def main(out: Path, dry_run: bool, config: ClassifierConfig, **inputs: Any) -> None:
    from rnagan.classification.finetune import FinetuneInputs, finetune

    if dry_run:
        echo_settings(config)
    echo_lines(finetune(config, FinetuneInputs(**inputs), out, dry_run))


if __name__ == "__main__":
    main()
