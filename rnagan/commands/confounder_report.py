"""Report what a model learnt beside morphology: centre, ischaemic time, age and sex.

Measures of generated and of real tiles are compared with these covariates and with the RNA's programmes; the report
says how much of the agreement of the tiles is left when the covariates are regressed out.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@options.tiles(expression_required=True)
@options.truth()
@click.option(
    "--covariates",
    callback=options.comma_separated,
    default="",
    help="Columns of the cohort table. [default: those of site,ischaemic_min,age,sex that it has]",
)
@click.option(
    "--categories", callback=options.comma_separated, default="", help="Those of them whose numbers are labels."
)
@click.option(
    "--programmes",
    type=options.PATH,
    help="Table gene and, if there are several, programme; also loading. [default: the first units of the condition]",
)
@options.out_folder("Folder for confounders.html, .json, .csv and .png.")
@options.split()
@options.n(12, "Tiles a profile.")
@click.option(
    "--draws", type=click.IntRange(min=99), default=1999, show_default=True, help="Of permutations and bootstraps."
)
@options.seed()
@options.device()
def main(
    model: Path,
    shards: str,
    cohort: Path,
    expression: Path,
    truth: Path | None,
    out: Path,
    device: Any,
    **asked: Any,
) -> None:
    from rnagan.evaluation.confounder_report import Asked, confounder_report
    from rnagan.evaluation.test_set import EvaluationInputs

    inputs = EvaluationInputs(model, shards, cohort, expression, truth)
    options.echo_lines(confounder_report(inputs, Asked(**asked), out, device))


if __name__ == "__main__":
    main()
