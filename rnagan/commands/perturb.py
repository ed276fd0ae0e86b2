"""Move a gene or a programme of genes up and down, and see what happens to the tissue: strips of tiles generated with
the same noise, and the curve of each morphology measure."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.option("--model", type=Path, required=True, help="Run of rnagan train-rnagan, or its model folder.")
@click.option("--profiles", type=Path, required=True, help="Profiles as .h5ad, in the units of the model.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Only profiles of this split.")
@click.option("--tissue", help="Only profiles of this tissue.")
@click.option("--sample", "samples", multiple=True, help="Only this profile; may be repeated.")
@click.option("--donors", type=click.IntRange(1), default=40, show_default=True, help="Donors a tissue, at most.")
@click.option("--genes", help="Genes to move, in SDs: ids or symbols with commas between, or a file with one a line.")
@click.option("--leading", is_flag=True, help="Move the genes as they vary together (first principal component).")
@click.option(
    "--programme",
    type=Path,
    help="Or a table gene,loading (and programme): one step adds the loading to the logarithm (ln) of a gene's level.",
)
@click.option("--name", help="Which programme of the table.")
@click.option("--truth", type=Path, help="Truth table of a simulated cohort, with the programme as a column.")
@click.option("--reach", type=click.FloatRange(0, min_open=True), help="Last step. [default: 3 SD; 1 with --programme]")
@click.option("--steps", type=click.IntRange(2), default=7, show_default=True, help="From -reach to +reach.")
@click.option("--n", type=click.IntRange(1), default=8, show_default=True, help="Tiles a profile and step.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=Path, required=True, help="Folder for the strips, curves and perturbation.json.")
@plain_errors
def main(
    model: Path,
    profiles: Path,
    split: str | None,
    tissue: str | None,
    samples: tuple[str, ...],
    donors: int,
    genes: str | None,
    leading: bool,
    programme: Path | None,
    name: str | None,
    truth: Path | None,
    reach: float | None,
    steps: int,
    n: int,
    seed: int,
    out: Path,
) -> None:
    from rnagan.evaluation.perturbation import Request, perturb_tiles

    chosen = {"split": split, "tissue": tissue, "samples": samples, "donors": donors}
    moved = {"genes": genes, "programme": programme, "name": name, "leading": leading, "truth": truth}
    request = Request(profiles, **chosen, **moved, reach=reach, steps=steps, n=n, seed=seed)
    for line in perturb_tiles(model, request, out):
        click.echo(line)


if __name__ == "__main__":
    main()
