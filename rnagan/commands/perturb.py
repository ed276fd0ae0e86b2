"""Move a gene or a programme of genes up and down, and see how the tissue changes.

The tiles of a strip are generated with the same noise; each measure of morphology gets a curve.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@options.profiles()
@click.option("--donors", type=click.IntRange(1), default=40, show_default=True, help="Donors a tissue, at most.")
@click.option(
    "--genes",
    type=options.TEXT,
    help="Genes to move, in SDs: ids or symbols with commas between, or a file with one a line.",
)
@click.option("--leading", is_flag=True, help="Move the genes as they vary together (first principal component).")
@click.option(
    "--programme",
    type=options.PATH,
    help="Or a table gene,loading (and programme): one step adds the loading to the logarithm (ln) of a gene's level.",
)
@click.option("--name", type=options.TEXT, help="Which programme of the table.")
@click.option("--truth", type=options.PATH, help="Truth table of a simulated cohort, with the programme as a column.")
@click.option("--reach", type=click.FloatRange(0, min_open=True), help="Last step. [default: 3 SD; 1 with --programme]")
@click.option("--steps", type=click.IntRange(2), default=7, show_default=True, help="From -reach to +reach.")
@options.n(8, "Tiles a profile and step.")
@options.seed()
@options.device()
@options.out_folder("Folder for the strips, curves and perturbation.json.")
def main(model: Path, out: Path, device: Any, **request: Any) -> None:
    from rnagan.evaluation.perturbation import Request, perturb_tiles

    options.echo_lines(perturb_tiles(model, Request(**request), out, device))


if __name__ == "__main__":
    main()
