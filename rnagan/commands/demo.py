"""Run a whole demonstration, from slides and expression to a report. What is done is kept and used again."""

from pathlib import Path

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@click.option(
    "--data",
    "source",
    type=options.PATH,
    help="Folder with real tiles and expression; without it a cohort is simulated.",
)
@click.option(
    "--out", type=options.PATH, help="Folder of the runs and the report.  [default: runs/demo or runs/demo-real]"
)
@click.option(
    "--shards",
    "data",
    type=options.PATH,
    help="Folder of cohort and shards.  [default: shards/data/demo or …/demo-real]",
)
@click.option(
    "--scale",
    type=click.Choice(["full", "short", "toy"]),
    default="full",
    show_default=True,
    help="full takes 12 to 17 minutes on two CPU cores, short 5, toy 2; a toy model learns nothing.",
)
def main(source: Path | None, out: Path | None, data: Path | None, scale: str) -> None:
    from rnagan.article.demos import run_demo
    from rnagan.runtime.folder_lock import locked

    name = "demo" if source is None else "demo-real"
    out, data = out or Path("runs") / name, data or Path("shards/data") / name
    with locked(out, "rnagan demo"), locked(data, "rnagan demo"):
        run_demo(out, data, source, scale)


if __name__ == "__main__":
    main()
