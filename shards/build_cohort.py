"""Pairs profiles with slides and splits the donors: the cohort table."""

from pathlib import Path

import click

from rnagan.cli import plain_errors

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(context_settings={"show_default": True})
@click.option(
    "--samples", required=True, type=FILE, help="Table of profiles: attributes (GTEx's are recognised) or expression."
)
@click.option(
    "--slides",
    required=True,
    type=FILE,
    help="Table of slides (slide, donor, tissue), or of ready-made tiles (path, tissue, donor).",
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The cohort table, a CSV.")
@click.option(
    "--pair-by",
    type=click.Choice(["donor", "tissue"]),
    default="donor",
    help="By donor and tissue; or by tissue alone, where images and profiles come from different people.",
)
@click.option("--sample-column", help="Column of the sample in --samples.")
@click.option("--donor-column", help="Column of the donor, in whichever of the two tables has it.")
@click.option("--tissue-column", help="Column of the tissue, in whichever of the two tables has it.")
@click.option("--site-column", help="Column of the centre, in whichever of the two tables has it.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the splits and of pairs by tissue.")
@click.option("--extend", type=FILE, help="An earlier cohort table: everybody in it keeps their split.")
@plain_errors
def main(samples, slides, out, pair_by, sample_column, donor_column, tissue_column, site_column, seed, extend):
    """Write the cohort table: which slide belongs to which profile, donor, tissue, split and site."""
    from rnagan.cohort import make_cohort_table

    columns = {"sample": sample_column, "donor": donor_column, "tissue": tissue_column, "site": site_column}
    for line in make_cohort_table(samples, slides, out, pair_by=pair_by, columns=columns, seed=seed, extend=extend):
        click.echo(line)


if __name__ == "__main__":
    main()
