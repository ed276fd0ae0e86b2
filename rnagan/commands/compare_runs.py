"""RUNS of one kind (run folders, or folders of them) side by side: settings, metrics, curves, grids, evaluations."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


def _pairs(_: click.Context, __: click.Parameter, told: tuple[str, ...]) -> list[tuple[str, Path]]:
    for each in told:
        if not all(each.partition("=")):
            raise click.BadParameter(f"{each!r} is not NAME=FOLDER.")
    return [(each.partition("=")[0], Path(each.partition("=")[2])) for each in told]


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=Path)
@click.option("--out", type=Path, required=True, help="Folder for compare.html, runs.csv, metrics.csv and pictures.")
@click.option("--name", "names", multiple=True, help="What to call a run, once for each in their order.")
@click.option(
    "--evaluation",
    "evaluations",
    multiple=True,
    metavar="NAME=FOLDER",
    callback=_pairs,
    help="Results of the run of that name: --out of rnagan evaluate-faithfulness, or any JSON with scores.",
)
@click.option("--x-axis", type=click.Choice(["images", "seconds"]), default="images", show_default=True)
@plain_errors
def main(
    runs: tuple[Path, ...],
    out: Path,
    names: tuple[str, ...],
    evaluations: list[tuple[str, Path]],
    x_axis: str,
) -> None:
    from rnagan.comparison.compare import compare_runs

    for line in compare_runs(runs, out, names, evaluations, x_axis):
        click.echo(line)


if __name__ == "__main__":
    main()
