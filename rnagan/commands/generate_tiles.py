"""Generate tiles from expression profiles with a trained RNA-GAN."""

from pathlib import Path

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@options.profiles(tissue=False, required=False)
@options.out("Folder for the tiles.")
@options.n(8, "Tiles a profile.")
@options.seed("Seed of the noise.")
@options.truncation()
@click.option("--format", "form", type=click.Choice(["png", "shards"]), default="png", show_default=True)
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

    chosen = list(samples)
    options.echo_lines(
        generate_tiles(
            model, profiles, out, n=n, seed=seed, form=form, split=split, samples=chosen, truncation=truncation
        )
    )


if __name__ == "__main__":
    main()
