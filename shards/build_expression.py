"""Expression table + cohort table → one .h5ad of profiles with donor, tissue and split."""

import click

from rnagan.cli import plain_errors


@click.command()
@click.option("--table", type=click.Path(), required=True, help="Expression table: .gct, .csv or .tsv, also gzipped.")
@click.option("--cohort", type=click.Path(), required=True, help="Cohort table (build_cohort.py makes it).")
@click.option("--out", type=click.Path(), required=True, help="The .h5ad to write.")
@click.option("--units", type=click.Choice(["tpm", "counts", "log2"]), help="Units of the table; else detected.")
@click.option("--genes", type=click.Path(), help="CSV whose first column lists the genes to keep.")
@click.option(
    "--sample-column", default="sample", show_default=True, help="Name of a CSV's or TSV's first column, the sample."
)
@plain_errors
def main(table: str, cohort: str, out: str, units: str | None, genes: str | None, sample_column: str) -> None:
    """Join an expression table to the cohort. Run again with the same inputs, it does nothing."""
    from pathlib import Path

    from rnagan.expression.build import build_expression

    paths = Path(table), Path(cohort), Path(out)
    gene_list = Path(genes) if genes else None
    for line in build_expression(*paths, units=units, genes=gene_list, sample_column=sample_column):
        click.echo(line)


if __name__ == "__main__":
    main()
