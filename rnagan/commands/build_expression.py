"""Expression table + cohort table → one .h5ad of profiles with donor, tissue and split."""

import click

from rnagan.commands.options import plain_errors


@click.command()
@click.option(
    "--table", type=click.Path(), required=True, help="Expression: .gct, .csv, .tsv, .txt (.gz), .parquet, .h5ad."
)
@click.option("--cohort", type=click.Path(), required=True, help="Cohort table (rnagan build-cohort makes it).")
@click.option("--out", type=click.Path(), required=True, help="The .h5ad to write.")
@click.option("--units", type=click.Choice(["tpm", "counts", "log2"]), help="Units of the table; else detected.")
@click.option("--rows", type=click.Choice(["samples", "genes"]), help="What the table's rows are; else found out.")
@click.option("--genes", type=click.Path(), help="CSV whose first column lists the genes to keep.")
@click.option("--gtf", type=click.Path(), help="GENCODE GTF instead: keep its protein-coding genes.")
@click.option(
    "--gene-map", type=click.Path(), help="Table with a column of Ensembl ids, for a table with Entrez ids or symbols."
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
@plain_errors
def main(table, cohort, out, **options):
    """Join an expression table to the cohort. Run again with the same inputs, it does nothing."""
    from pathlib import Path

    from rnagan.expression.build_h5ad import build_expression

    for name in ("genes", "gtf", "gene_map"):
        options[name] = Path(options[name]) if options[name] else None
    for line in build_expression(Path(table), Path(cohort), Path(out), **options):
        click.echo(line)


if __name__ == "__main__":
    main()
