"""Slides, or a folder of ready-made tiles, to shards."""

import os
from pathlib import Path

import click

from rnagan.cli import config_options, plain_errors
from rnagan.config import TilingConfig, read_yaml, resolve

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(context_settings={"show_default": True})
@click.option(
    "--slides",
    "sources",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A slide, or a folder that is searched for slides; may be given several times.",
)
@click.argument("more_slides", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[SLIDE]...")
@click.option("--tiles", "table", type=FILE, help="Instead of slides: a table of ready-made tiles, in their folder.")
@click.option("--path-column", default="path", help="With --tiles: column of the image's path.")
@click.option("--tissue-column", default="tissue", help="With --tiles: column of the tissue.")
@click.option("--donor-column", default="donor", help="With --tiles: column of the donor; one shard each.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the shards.")
@click.option("--processes", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), help="Slides made at a time.")
@click.option("--config", "config_file", type=FILE, help="YAML file of the settings below; flags win.")
@config_options(TilingConfig)
@click.pass_context
@plain_errors
def main(
    context,
    sources,
    more_slides,
    table,
    path_column,
    tissue_column,
    donor_column,
    out,
    processes,
    config_file,
    settings,
):
    """Cut slides into tiles and write a shard for each; with --tiles, pack ready-made tiles, a shard for each donor.

    Start it again to go on: only what is missing or changed is made. Slides that fail are listed at the end.
    With --tiles, mpp says the resolution of a stored tile; where it isn't given the shards say that it isn't known.
    """
    given = (read_yaml(config_file) if config_file else {}) | settings
    config = resolve(TilingConfig, given)
    sources += more_slides
    if bool(sources) == bool(table):
        raise click.UsageError("Give either --slides or --tiles.")
    if table:
        from rnagan.slides.folder import pack_tiles

        summary = pack_tiles(
            table,
            out,
            config,
            processes,
            mpp=config.mpp if "mpp" in given else None,
            path_column=path_column,
            tissue_column=tissue_column,
            donor_column=donor_column,
        )
    else:
        from rnagan.slides.tiling import tile_slides

        summary = tile_slides(list(sources), out, config, processes)
    for slide, reason in summary.failures.items():
        click.echo(f"{slide} failed: {reason}", err=True)
    click.echo(f"{out}: {summary}")
    context.exit(1 if summary.failures else 0)


if __name__ == "__main__":
    main()
