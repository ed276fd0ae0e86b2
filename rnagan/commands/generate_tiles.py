"""Generate tiles from expression profiles with a trained RNA-GAN."""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@options.profiles(tissue=False, required=False)
@options.out_folder("Folder for the tiles.")
@options.n(8, "Tiles a profile.")
@options.seed("Seed of the noise.")
@options.truncation()
@click.option(
    "--stain-of",
    type=options.TEXT,
    metavar="SECTION",
    help="Of a run trained with --nuisance section_stain: stained like this training section or slide.",
)
@options.device()
@click.option("--format", "form", type=click.Choice(["png", "shards"]), default="png", show_default=True)
def main(model: Path, profiles: Path | None, out: Path, samples: tuple[str, ...], **asked: Any) -> None:
    from rnagan.generation import generate_tiles

    options.echo_lines(generate_tiles(model, profiles, out, samples=list(samples), **asked))


if __name__ == "__main__":
    main()
