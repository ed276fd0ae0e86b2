"""Bring MLflow up to date from RUNS, run folders or folders of them, after a server was down; nothing is doubled."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=Path)
@plain_errors
def main(runs: tuple[Path, ...]) -> None:
    from rnagan.tracking.run_folder import find_runs
    from rnagan.tracking.sync import sync_mlflow

    for run in find_runs(runs):
        click.echo(sync_mlflow(run))


if __name__ == "__main__":
    main()
