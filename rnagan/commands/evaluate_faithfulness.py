"""Measure whether tiles generated for held-out donors follow their profiles.

They are compared with the truth of a simulated cohort, or with the donors' real tiles; the page also says whether the
right donor is found among others of its tissue, and shows a null model and training donors beside.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands.options import (
    echo_lines,
    model_option,
    n_option,
    out_option,
    plain_errors,
    seed_option,
    split_option,
    tile_options,
    truth_option,
)


@click.command(help=__doc__)
@plain_errors
@model_option()
@click.option("--null", type=Path, help="Likewise, trained with --shuffle-profiles: what is shown beside the model.")
@tile_options(expression_required=True)
@truth_option()
@out_option("Folder for faithfulness.html, evaluation.json and the pictures.")
@split_option()
@n_option(12, "Tiles a profile.")
@click.option(
    "--train-donors",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Training donors a tissue that are evaluated too, at most: learning by heart shows as a gap. 0: none.",
)
@seed_option()
def main(out: Path, split: str, n: int, train_donors: int, seed: int, **inputs: Any) -> None:
    from rnagan.evaluation.faithfulness import PAGE, EvaluationInputs, evaluate
    from rnagan.reports.console import lines

    echo_lines(lines(evaluate(EvaluationInputs(**inputs), out, split, n, seed, train_donors)))
    click.echo(f"\nPage: {out / PAGE}")


if __name__ == "__main__":
    main()
