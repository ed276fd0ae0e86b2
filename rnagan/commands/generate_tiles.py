"""Generate tiles from expression profiles with a trained RNA-GAN."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.option("--model", type=Path, required=True, help="Run of rnagan train-rnagan, or its model folder.")
@click.option(
    "--profiles", type=Path, help="Profiles as .h5ad (rnagan build-expression); not for modes gan and noise_only."
)
@click.option("--out", type=Path, required=True, help="Folder for the tiles.")
@click.option("--n", type=click.IntRange(min=1), default=8, show_default=True, help="Tiles a profile.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the noise.")
@click.option(
    "--truncation",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Factor on all noise: below 1, more typical and less varied tiles.",
)
@click.option("--format", "form", type=click.Choice(["png", "shards"]), default="png", show_default=True)
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Only profiles of this split.")
@click.option("--sample", "samples", multiple=True, help="Only this profile; may be repeated.")
@plain_errors
def main(
    model: Path,
    profiles: Path | None,
    out: Path,
    n: int,
    seed: int,
    truncation: float,
    form: str,
    split: str | None,
    samples: tuple[str, ...],
) -> None:
    from rnagan.generation import generate_tiles

    chosen = {"split": split, "samples": list(samples)}
    for line in generate_tiles(model, profiles, out, n=n, seed=seed, form=form, truncation=truncation, **chosen):
        click.echo(line)


if __name__ == "__main__":
    main()
