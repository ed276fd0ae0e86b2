"""Bring MLflow up to date from run folders, after a server was down.

RUNS are run folders, or folders of them. Nothing is doubled.
"""

from pathlib import Path

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@click.argument("runs", nargs=-1, required=True, type=Path)
def main(runs: tuple[Path, ...]) -> None:
    from rnagan.tracking.run_folder import find_runs
    from rnagan.tracking.sync import sync_mlflow

    options.echo_lines(sync_mlflow(run) for run in find_runs(runs))


if __name__ == "__main__":
    main()
