"""Bring MLflow up to date after a server was down; nothing is doubled.

FOLDERS: of runs, of evaluations, or folders that hold them.
"""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.argument("folders", nargs=-1, required=True, type=Path)
@plain_errors
def main(folders: tuple[Path, ...]) -> None:
    from rnagan.tracking.sync import sync_folders

    for line in sync_folders(folders):
        click.echo(line)


if __name__ == "__main__":
    main()
