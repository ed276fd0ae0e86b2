"""Ask what a model gives away of the people it was trained on, before it is given away.

Attacks try to tell people of the training split from others by their tiles and profiles; copies are looked for, and
attributes such as sex and age are read from generated tiles.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@options.tiles(expression_required=True)
@options.out_folder("Folder for privacy.html, privacy.json and at_risk.csv, which names people.")
@click.option(
    "--reference", type=options.PATH, help="A model that was trained without some of the people, on another split."
)
@click.option(
    "--donors", type=click.IntRange(min=1), default=200, show_default=True, help="Members and others, at most."
)
@click.option("--tiles", type=click.IntRange(min=1), default=8, show_default=True, help="Real and generated, a donor.")
@click.option("--copies", type=click.IntRange(min=3), default=400, show_default=True, help="Tiles tested for copies.")
@click.option(
    "--covariates",
    callback=options.comma_separated,
    default="",
    help="Attributes: columns of the cohort table. [default: those of site,ischaemic_min,age,sex that it has]",
)
@options.seed()
@options.device()
def main(model: Path, shards: str, cohort: Path, expression: Path, out: Path, device: Any, **asked: Any) -> None:
    from rnagan.evaluation.test_set import EvaluationInputs
    from rnagan.privacy.audit import Asked, audit_privacy

    inputs = EvaluationInputs(model, shards, cohort, expression)
    options.echo_lines(audit_privacy(inputs, Asked(**asked), out, device))


if __name__ == "__main__":
    main()
