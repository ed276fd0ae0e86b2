"""Bring MLflow up to date after a server was down. Nothing is doubled.

FOLDERS: of runs, of evaluations, or folders that hold them.
"""

from pathlib import Path

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@click.argument("folders", nargs=-1, required=True, type=options.PATH)
def main(folders: tuple[Path, ...]) -> None:
    from rnagan.tracking.sync import sync_folders

    options.echo_lines(sync_folders(folders))


if __name__ == "__main__":
    main()
