"""Join an expression table to the cohort table: one .h5ad of profiles with donor, tissue and split.

Run again with the same inputs, it does nothing.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@click.option(
    "--table", type=options.PATH, required=True, help="Expression: .gct, .csv, .tsv, .txt (.gz), .parquet, .h5ad."
)
@options.cohort()
@options.out("The .h5ad to write.")
@click.option(
    "--units",
    metavar="[tpm|counts|log2|ln1p|log10p1|log2p0.001|log2counts|lncounts|log10counts]",
    help="Units of the table; else detected. Other logarithms than log2(x + 1) are converted to it, or to counts.",
)
@click.option("--rows", type=click.Choice(["samples", "genes"]), help="What the table's rows are; else detected.")
@click.option(
    "--genes", type=options.PATH, help="CSV whose first column lists the genes to keep, or an .h5ad that has them."
)
@click.option("--gtf", type=options.PATH, help="GENCODE GTF instead: keep its protein-coding genes.")
@click.option(
    "--gene-map", type=options.PATH, help="Table with a column of Ensembl ids, for a table with Entrez ids or symbols."
)
@click.option(
    "--min-overlap",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Refuse a table with a smaller share of the genes to keep.",
)
@click.option(
    "--sample-column",
    default="sample",
    show_default=True,
    help="Name of the column of samples, where rows are samples.",
)
@click.option(
    "--min-spots",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Keep genes seen in so many training profiles at least.",
)
@click.option(
    "--pool-spots",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Add to each spot the counts of its nearest spots, so many, of the same section and split.",
)
@click.option(
    "--centre-by",
    default="",
    metavar="COLUMN",
    help="Column of the cohort table, such as slide: profiles become ln(1 + counts per 10⁴) less their group's mean.",
)
def main(table: Path, cohort: Path, out: Path, **settings: Any) -> None:
    from rnagan.expression.build_h5ad import build_expression

    options.echo_lines(build_expression(table, cohort, out, **settings))


if __name__ == "__main__":
    main()
