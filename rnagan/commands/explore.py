"""Explore a model in the browser: choose a profile, move a gene or a programme, and see the tiles answer."""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.serving_options import listens_at

DEMO = {  # what rnagan demo leaves
    "model": Path("runs/demo/rnagan"),
    "profiles": Path("shards/data/demo/expression.h5ad"),
    "programme": Path("shards/data/demo/cohort/programmes.csv"),
    "cohort": Path("shards/data/demo/cohort.csv"),
    "shards": "shards/data/demo/tiles",
}


@click.command(help=__doc__)
@options.plain_errors
@click.option("--demo", is_flag=True, help="Everything of the demo (make demo), unless another option says otherwise.")
@options.model(required=False)
@options.profiles(required=False, unless="needed with --demo")
@click.option("--programme", type=options.PATH, help="Table gene,loading (and programme): programmes to move.")
@click.option("--shards", type=options.FOLDER_OR_URL, help="Real tiles to show beside (rnagan build-tiles).")
@click.option("--cohort", type=options.PATH, help="Their cohort table; with positions of spots, for the section map.")
@click.option("--check", is_flag=True, help="Open everything, generate once, and stop.")
@options.device()
@listens_at("Password of the explorer")
def main(
    demo: bool, split: str | None, tissue: str | None, samples: tuple[str, ...], check: bool, **given: Any
) -> None:
    if demo:
        given |= {name: value for name, value in DEMO.items() if given[name] is None}
        if not (given["model"]).exists():
            raise click.UsageError(
                f"There is no {given['model']} here; make the demo first (make demo, or rnagan demo)."
            )
    if given["model"] is None or given["profiles"] is None:
        raise click.UsageError("Give --model and --profiles, or --demo.")
    from rnagan.apps.explorer_start import start_explorer
    from rnagan.latent.profiles import Choice

    choice = Choice(given.pop("profiles"), split, samples, tissue)
    start_explorer(choice=choice, check=check, **given)


if __name__ == "__main__":
    main()
