"""Generate tiles from expression profiles with a trained RNA-GAN."""

from pathlib import Path

import click

from rnagan.commands.options import (
    echo_lines,
    model_option,
    n_option,
    out_option,
    plain_errors,
    profile_options,
    seed_option,
    truncation_option,
)


@click.command(help=__doc__)
@plain_errors
@model_option()
@profile_options(tissue=False, required=False)
@out_option("Folder for the tiles.")
@n_option(8, "Tiles a profile.")
@seed_option("Seed of the noise.")
@truncation_option()
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
    echo_lines(
        generate_tiles(
            model, profiles, out, n=n, seed=seed, form=form, split=split, samples=chosen, truncation=truncation
        )
    )


if __name__ == "__main__":
    main()
