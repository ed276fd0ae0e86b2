"""Score gene sets of a GMT file in every profile, as a latent for --embedding.

A score is the mean normal score of a set's genes: only the order of a profile's genes counts, in any units.
"""

from pathlib import Path

import click

from rnagan.commands import options


@click.command(help=__doc__, context_settings={"show_default": True})
@options.plain_errors
@click.option("--profiles", type=options.PATH, required=True, help="Profiles as .h5ad (rnagan build-expression).")
@click.option("--gmt", type=options.PATH, required=True, help="Gene sets: name, description, genes, with tabs between.")
@options.out("The .h5ad with the scores beside the profiles.")
@click.option("--key", type=options.TEXT, default="X_pathways", help="Where in obsm the scores are put.")
@click.option("--min-genes", type=click.IntRange(1), default=5, help="Genes of a set that profiles need.")
def main(profiles: Path, gmt: Path, out: Path, key: str, min_genes: int) -> None:
    from rnagan.expression.pathways import score_pathways

    options.echo_lines(score_pathways(profiles, gmt, out, key, min_genes))


if __name__ == "__main__":
    main()
