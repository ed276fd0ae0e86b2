"""Measure whether tiles generated for held-out donors follow their profiles.

They are compared with the truth of a simulated cohort, or with the donors' real tiles; the page also says whether the
right donor is found among others of its tissue, and shows a null model and training donors for comparison. Where tiles
have profiles and positions of their own (spots of a section), each is compared with the spot's own real tile.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@click.option(
    "--null", type=options.PATH, help="A run trained with --shuffle-profiles: the null, shown beside the model."
)
@options.tiles(expression_required=True)
@options.truth()
@options.out_folder("Folder for faithfulness.html, evaluation.json and the pictures.")
@options.split()
@options.n(12, "Tiles a profile.")
@click.option(
    "--train-donors",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Training donors a tissue that are evaluated too, at most: learning by heart shows as a gap. 0: none.",
)
@click.option(
    "--consecutive",
    callback=options.comma_separated,
    help="Of spots: sections in the order in which they were cut, such as C2,C3,C4; the same place of the next one is "
    "shown beside.",
)
@click.option(
    "--extractor",
    type=options.TEXT,
    default=None,
    help="Of spots: whose features tell tiles apart, as in rnagan compute-fid; by default an offline one that took no "
    "part in training.",
)
@click.option(
    "--measures",
    type=options.TEXT,
    help="Of spots: further measures of your own as module:function, which takes tiles and returns numbers by name.",
)
@click.option(
    "--proportions",
    type=options.PATH,
    help="Of spots: a table of each spot's cell types (sample, and a column for each) from a deconvolution, with which "
    "--measures of the same names are compared.",
)
@click.option(
    "--calibrate",
    "calibrated",
    is_flag=True,
    help="Also with a gain for each component of the condition, fitted on validation donors so that slopes come near "
    "1 there.",
)
@options.seed()
@options.sampling()
@options.device()
def main(
    out: Path,
    split: str,
    n: int,
    train_donors: int,
    consecutive: tuple[str, ...],
    extractor: str | None,
    measures: str | None,
    proportions: Path | None,
    calibrated: bool,
    seed: int,
    device: Any,
    sampling: Any,
    **inputs: Any,
) -> None:
    from rnagan.evaluation.faithfulness import PAGE, evaluate
    from rnagan.evaluation.spot_pairs import SpotSettings
    from rnagan.evaluation.test_set import EvaluationInputs
    from rnagan.reports.console import lines

    spots = SpotSettings(consecutive, extractor or "", measures or "", proportions)
    asked = split, n, seed, train_donors, device, spots, sampling, calibrated
    options.echo_lines(lines(evaluate(EvaluationInputs(**inputs), out, *asked)))
    options.echo(f"\nPage: {out / PAGE}")


if __name__ == "__main__":
    main()
