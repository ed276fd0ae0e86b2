"""Classify tiles generated from an external cohort's profiles by a network that was trained on real tiles (figure 4D).

The classifier also calls real tiles of held-out donors, as the ceiling.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_of
from rnagan.config.classifier import ClassifierConfig

SHOWN = (
    "per_class",
    "where",
    "backbone",
    "epochs",
    "batch_size",
    "lr",
    "weight_decay",
    "flips",
    "validation_share",
    "patience_epochs",
    "seed",
    "precision",
    "threads",
)


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@click.option("--profiles", type=options.PATH, required=True, help="The other cohort's .h5ad, with obs column tissue.")
@options.shards()
@options.cohort()
@options.out_folder("Folder for result.json, report.html and pictures.")
@options.n(100, "Generated tiles a tissue.", least=2)
@click.option(
    "--tissue-map",
    multiple=True,
    help="A tissue that is called otherwise, external=ours; may be repeated. Or a CSV of columns external, ours.",
)
@options.device()
@config_of(ClassifierConfig, "paper_external", SHOWN)
def main(out: Path, n: int, config: ClassifierConfig, device: Any, **inputs: Any) -> None:
    from rnagan.classification.external_tiles import ExternalInputs, evaluate_external

    options.echo_lines(evaluate_external(config, ExternalInputs(**inputs), out, n, device))


if __name__ == "__main__":
    main()
