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
    help="Folder with real spots, whose tile and expression belong together; without it a cohort is simulated.",
)
@click.option(
    "--unpaired", is_flag=True, help="Of --data, tiles of lung and colon and GTEx's profiles, paired by tissue alone."
)
@click.option(
    "--out",
    type=options.PATH,
    help="Folder of the runs and the report.  [default: runs/demo, …/demo-real or …/demo-unpaired]",
)
@click.option(
    "--shards",
    "data",
    type=options.PATH,
    help="Folder of cohort and shards.  [default: shards/data/demo and so on]",
)
@click.option(
    "--scale",
    type=click.Choice(["full", "short", "toy"]),
    default="full",
    show_default=True,
    help="full takes 12 to 18 minutes on two CPU cores, short 5, toy 2; a toy model learns nothing.",
)
def main(source: Path | None, unpaired: bool, out: Path | None, data: Path | None, scale: str) -> None:
    from rnagan.article.demos import run_demo
    from rnagan.runtime.folder_lock import locked

    if unpaired and source is None:
        raise click.UsageError("--unpaired says which of the real data are taken; give their folder with --data.")
    kind, name = ("simulated", "demo") if source is None else ("spots", "demo-real")
    if unpaired:
        kind, name = "unpaired", "demo-unpaired"
    out, data = out or Path("runs") / name, data or Path("shards/data") / name
    with locked(out, "rnagan demo"), locked(data, "rnagan demo"):
        run_demo(kind, out, data, source, scale)


if __name__ == "__main__":
    main()
