"""Serve a quiz in the browser: is a tile real or generated? Ten rounds, a score, and what gave the tiles away.

Tiles are prepared once in --out; later starts need no --source.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.serving_options import served_at, served_tiles


@click.command(help=__doc__)
@options.plain_errors
@served_tiles(each=50)
@options.out_folder("Folder of the quiz: its tiles and answers.")
@click.option("--rounds", type=click.IntRange(1, 100), default=10, show_default=True, help="Tiles of a game.")
@click.option("--prepare-only", is_flag=True, help="Make the tiles, and stop.")
@served_at()
def main(
    sources: tuple[str, ...],
    curated: Path | None,
    wanted: Any,
    out: Path,
    rounds: int,
    prepare_only: bool,
    database: str | None,
    address: Any,
) -> None:
    from rnagan.apps.quiz import check_quiz
    from rnagan.apps.serving import prepare, serve_quiz

    tiles = prepare(out, sources, curated, wanted, explain=True, replace=prepare_only)
    check_quiz(tiles, rounds)
    if not prepare_only:
        serve_quiz(tiles, out, database, rounds, address)


if __name__ == "__main__":
    main()
