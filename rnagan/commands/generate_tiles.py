"""Generate tiles from expression profiles with a trained RNA-GAN, or draw whole sections of spots (--mosaic)."""

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
@options.sampling()
@click.option(
    "--stain-of",
    type=options.TEXT,
    metavar="SECTION",
    help="Of a run trained with --nuisance section_stain: stained like this training section or slide.",
)
@options.device()
@click.option("--format", "form", type=click.Choice(["png", "shards"]), default="png", show_default=True)
@click.option(
    "--mosaic",
    is_flag=True,
    help="Instead of tiles, a picture of each section with a generated tile at each spot, and maps of what is measured "
    "on them; needs --cohort.",
)
@click.option(
    "--cohort",
    type=options.PATH,
    help="With --mosaic: the cohort table with the section and position of each spot (rnagan build-cohort --x-column).",
)
@click.option(
    "--shards", type=options.FOLDER_OR_URL, help="With --mosaic: the sections' real tiles, which are shown beside."
)
def main(
    model: Path,
    profiles: Path | None,
    out: Path,
    samples: tuple[str, ...],
    form: str,
    mosaic: bool,
    cohort: Path | None,
    shards: str | None,
    sampling: Any,
    **asked: Any,
) -> None:
    if not mosaic:
        if cohort is not None or shards is not None:
            raise click.UsageError("--cohort and --shards are for --mosaic.")
        from rnagan.generation import generate_tiles

        asked |= {"samples": list(samples), "form": form, "options": sampling}
        options.echo_lines(generate_tiles(model, profiles, out, **asked))
        return
    if cohort is None or profiles is None:
        raise click.UsageError("--mosaic needs --cohort, which says where spots lie, and --profiles.")
    from rnagan.evaluation.section_mosaic import draw_sections

    asked |= {"samples": samples, "shards": shards, "options": sampling}
    options.echo_lines(draw_sections(model, profiles, cohort, out, **asked))


if __name__ == "__main__":
    main()
