"""Serve a blinded reader study: tissue, quality and artefacts of each tile, by invitation links that can be resumed.

Tiles are prepared once in --out; later starts need no --source. Analyse it with rnagan analyse-reader-study --study.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.serving_options import served_at, served_tiles


@click.command(help=__doc__)
@options.plain_errors
@served_tiles(each=3)
@options.out_folder("Folder of the study: its tiles, links and answers.")
@click.option("--readers", type=click.IntRange(0, 1000), default=0, show_default=True, help="New readers to invite.")
@click.option("--readers-table", type=options.PATH, help="Instead: CSV with a column reader, their names.")
@click.option("--repeats", type=click.IntRange(0), default=3, show_default=True, help="Tiles that come twice.")
@click.option("--lowest", type=int, default=1, show_default=True, help="Lowest quality.")
@click.option("--highest", type=int, default=5, show_default=True, help="Highest quality.")
@click.option("--title", type=options.TEXT, default="Tile study", show_default=True, help="Title that readers see.")
@click.option("--prepare-only", is_flag=True, help="Make the tiles and form.html (figure S2), and stop.")
@served_at()
def main(
    sources: tuple[str, ...],
    curated: Path | None,
    wanted: Any,
    out: Path,
    readers: int,
    readers_table: Path | None,
    repeats: int,
    lowest: int,
    highest: int,
    title: str,
    prepare_only: bool,
    database: str | None,
    address: Any,
) -> None:
    from rnagan.apps.reader_study import StudySettings
    from rnagan.apps.serving import prepare, reader_names, serve_study, write_form

    settings = StudySettings(title, lowest, highest, repeats, wanted.seed)
    names = reader_names(readers, readers_table)
    tiles = prepare(out, sources, curated, wanted, explain=False, replace=prepare_only)
    if prepare_only:
        options.echo(f"Form: {write_form(out, tiles, settings)}")
    else:
        serve_study(tiles, out, database, settings, names, address)


if __name__ == "__main__":
    main()
