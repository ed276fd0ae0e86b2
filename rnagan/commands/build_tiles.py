"""Cut slides into tiles and write a shard for each; with --tiles, pack ready-made tiles, a shard for each donor.

Start it again to go on: only what is missing or changed is made. Slides that fail are listed at the end and in
OUT/failures.csv, and the exit code is 1; it is 3 if --max-failures ended the run. Slides that give no tile are listed
with the reason; the exit code is 4 if they are more than --max-without-tiles.
With --tiles, mpp says the resolution of a stored tile; where it isn't given the shards say that it isn't known.
"""

import os
from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.build_report import SOME_FAILED, build_limits, report_build
from rnagan.commands.config_options import config_options
from rnagan.config.base import resolve
from rnagan.config.tiling import TilingConfig
from rnagan.io.files import read_yaml
from rnagan.runtime.workers import Workers


def parse_part(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    first, _, second = value.partition("/")
    if not (first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
        raise click.BadParameter(f"it must be i/n with i from 1 to n, like 1/8, not {value!r}.")
    return int(first), int(second)


@click.command(help=__doc__, context_settings={"show_default": True})
@options.plain_errors
@click.option(
    "--slides",
    "given",
    multiple=True,
    type=options.FILE_OR_FOLDER,
    help="A slide, or a folder that is searched for slides; may be given several times.",
)
@click.argument("more_slides", nargs=-1, type=options.FILE_OR_FOLDER, metavar="[SLIDE]...")
@click.option(
    "--tiles", "table", type=options.FILE, help="Instead of slides: a table of ready-made tiles, in their folder."
)
@click.option("--path-column", default="path", type=options.TEXT, help="With --tiles: column of the image's path.")
@click.option("--tissue-column", default="tissue", type=options.TEXT, help="With --tiles: column of the tissue.")
@click.option(
    "--donor-column", default="donor", type=options.TEXT, help="With --tiles: column of the donor; one shard each."
)
@click.option(
    "--section-column", type=options.TEXT, help="With --tiles: column of the section; one shard each, not the donor."
)
@click.option(
    "--profile-column", type=options.TEXT, help="With --tiles: column of each tile's own profile, such as its spot."
)
@click.option(
    "--crop-px",
    type=click.IntRange(1),
    help="With --tiles: reduce the centred square of so many pixels of each image, not its largest.",
)
@click.option(
    "--margin-px",
    type=click.IntRange(0, 1024),
    default=0,
    help="With --crop-px: store images wider than their tiles by so many px on each side; training shifts within them.",
)
@click.option("--out", required=True, type=options.NEW_FOLDER, help="Folder of the shards.")
@click.option(
    "--cohort",
    type=options.FILE,
    help="Table with a column slide: only these are made; and perhaps mpp, which wins over what a slide says.",
)
@click.option(
    "--coordinates", type=options.FOLDER, help="Folder of TRIDENT's or CLAM's .h5 files, instead of our tissue mask."
)
@click.option(
    "--masks",
    type=options.FOLDER,
    help="Folder of tissue masks, instead of our own: ID.geojson (polygons in level-0 pixels, as QuPath and TRIDENT "
    "write them) or ID.png (the whole slide at any size; tissue isn't 0).",
)
@click.option(
    "--mask-class",
    "mask_classes",
    multiple=True,
    help="With --masks: a class of QuPath that is tissue; may be repeated.",
)
@click.option(
    "--mask-origin",
    type=click.Choice(["level-0", "bounds"]),
    help="With --masks: where GeoJSON counts from on MIRAX and Leica slides; QuPath counts from the scanned bounds.",
)
@click.option(
    "--missing-mask",
    default="error",
    type=click.Choice(["error", "otsu"]),
    help="With --masks: a slide without one fails, or gets our own mask by Otsu's threshold.",
)
@click.option("--dry-run", is_flag=True, help="Print level, mpp, its source and the tiles to expect of each slide.")
@click.option("--qc/--no-qc", default=True, help="Draw a picture of each slide and a contact sheet into OUT/qc.")
@click.option("--part", callback=parse_part, metavar="I/N", help="Only the I-th of N parts: a task of a job array.")
@build_limits("slide")
@options.workers(default_processes=min(2, os.cpu_count() or 1))
@click.option("--config", "config_file", type=options.FILE, help="YAML file of the settings below; flags win.")
@config_options(TilingConfig)
@click.pass_context
def main(
    context: click.Context,
    given: tuple[Path, ...],
    more_slides: tuple[Path, ...],
    table: Path | None,
    out: Path,
    cohort: Path | None,
    coordinates: Path | None,
    masks: Path | None,
    mask_classes: tuple[str, ...],
    mask_origin: str | None,
    missing_mask: str,
    dry_run: bool,
    qc: bool,
    part: tuple[int, int] | None,
    verify: bool,
    max_failures: int,
    max_without_tiles: float,
    max_unreadable: float,
    workers: Workers,
    config_file: Path | None,
    settings: dict,
    **columns: Any,
) -> None:
    given_settings = (read_yaml(config_file) if config_file else {}) | settings
    config = resolve(TilingConfig, given_settings)
    given += more_slides
    if bool(given) == bool(table):
        raise click.UsageError("Give either --slides or --tiles.")
    if given and any(columns[name] for name in ("section_column", "profile_column", "crop_px", "margin_px")):
        raise click.UsageError("--section-column, --profile-column, --crop-px and --margin-px are for --tiles.")
    if table and (cohort or coordinates or masks or dry_run):
        raise click.UsageError("--cohort, --coordinates, --masks and --dry-run are for --slides.")
    if coordinates and masks:
        raise click.UsageError("Give either --coordinates or --masks.")
    if not masks and (mask_classes or mask_origin or missing_mask != "error"):
        raise click.UsageError("--mask-class, --mask-origin and --missing-mask are for --masks.")
    from rnagan.data.build_jobs import BuildOptions

    how = BuildOptions(workers, part, max_failures or None, verify)
    if table:
        from rnagan.slides.premade_tiles import pack_tiles

        mpp = config.mpp if "mpp" in given_settings else None
        summary = pack_tiles(table, out, config, how, mpp=mpp, **columns)
    else:
        from rnagan.slides.masks import MaskFolder
        from rnagan.slides.sources import find_sources
        from rnagan.slides.tiling import tile_slides

        folder = MaskFolder(masks, mask_classes, mask_origin, missing_mask == "error") if masks else None
        sources, notes = find_sources(given, cohort, coordinates, folder)
        for note in notes:
            options.echo(note)
        if dry_run:
            from rnagan.slides.dry_run import as_text, survey

            found = survey(sources, config, workers)
            options.echo(as_text(found))
            context.exit(SOME_FAILED if found["problem"].notna().any() else 0)
        summary = tile_slides(sources, out, config, how, qc, max_unreadable)
    report_build(context, summary, out, how, max_without_tiles)


if __name__ == "__main__":
    main()
