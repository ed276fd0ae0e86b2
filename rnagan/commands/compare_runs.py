"""Compare runs of one kind side by side: settings, metrics, curves, grids and evaluations.

RUNS are run folders, or folders of them.
"""

from pathlib import Path

import click

from rnagan.commands import options


def _pairs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, Path]]:
    for value in values:
        if not all(value.partition("=")):
            raise click.BadParameter(f"{value!r} is not NAME=FOLDER.")
    return [(value.partition("=")[0], Path(value.partition("=")[2])) for value in values]


@click.command(help=__doc__)
@options.plain_errors
@click.argument("runs", nargs=-1, required=True, type=options.PATH)
@options.out_folder("Folder for compare.html, runs.csv, metrics.csv and pictures.")
@click.option(
    "--name", "names", multiple=True, type=options.TEXT, help="What to call a run, once for each in their order."
)
@click.option(
    "--evaluation",
    "evaluations",
    multiple=True,
    metavar="NAME=FOLDER",
    callback=_pairs,
    help="Results of the run of that name: --out of rnagan evaluate-faithfulness, or any JSON with scores.",
)
@click.option("--x-axis", type=click.Choice(["images", "seconds"]), default="images", show_default=True)
def main(
    runs: tuple[Path, ...], out: Path, names: tuple[str, ...], evaluations: list[tuple[str, Path]], x_axis: str
) -> None:
    from rnagan.comparison.compare import compare_runs

    options.echo_lines(compare_runs(runs, out, names, evaluations, x_axis))


if __name__ == "__main__":
    main()
