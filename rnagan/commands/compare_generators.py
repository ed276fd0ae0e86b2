"""Compare generators: rows of a family, preset and settings, each trained for the same computing and evaluated alike.

What is finished is kept, and what was stopped goes on: the same command again continues the table.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.tiles(expression_required=True)
@options.vae("Run of rnagan train-vae, or its model folder; or give --embedding.", required=False)
@options.embedding()
@options.truth()
@options.out_folder("Folder for generators.csv, generators.json, generators.html and the cells.")
@click.option(
    "--row",
    "named",
    type=options.TEXT,
    multiple=True,
    metavar="NAME[=FAMILY:PRESET]",
    help="A row: wgan_gp, relativistic, features, two_critics or flow, or one of your own; may be repeated. Without it "
    "all of these.",
)
@click.option(
    "--set",
    "settings",
    type=options.TEXT,
    multiple=True,
    metavar="[FAMILY.|ROW.]SETTING=VALUE",
    help="A setting of every row that has it, of a family's rows (gan.generator_width=24), or of a row; repeated.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=900,
    show_default=True,
    help="Of computing that each training has, its start with them: processor time, or by the clock on a GPU.",
)
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="Trainings of each row.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Trainings at once; 1 on a GPU."
)
@options.split("validation", "test")
@options.n(12, "Tiles a profile, of which measures are means.")
@click.option(
    "--tiles",
    "count",
    type=click.IntRange(min=2),
    default=2000,
    show_default=True,
    help="Generated tiles of a Fréchet distance.",
)
@click.option(
    "--extractor",
    "extractors",
    type=options.TEXT,
    multiple=True,
    default=("efficientnet_lite0", "efficientnet_lite2"),
    show_default=True,
    help="Whose features distances, precision and recall are of, as in rnagan compute-fid; may be repeated.",
)
@click.option(
    "--copy-tiles", type=click.IntRange(min=3), default=400, show_default=True, help="Looked up among training tiles."
)
@click.option(
    "--train-donors", type=click.IntRange(min=0), default=0, show_default=True, help="Of each tissue, evaluated too."
)
@click.option(
    "--consecutive", callback=options.comma_separated, help="Of spots: sections in the order in which they were cut."
)
@click.option("--curves", is_flag=True, help="Also each figure over truncation (of a GAN) or guidance (of a flow).")
@click.option("--calibrate", "calibrated", is_flag=True, help="Also with a condition calibrated on validation donors.")
@options.dry_run("Print the rows and the state of their cells; train nothing.")
@options.device()
def main(
    shards: Any,
    cohort: Path,
    expression: Path,
    vae: Path | None,
    embedding: str | None,
    truth: Path | None,
    out: Path,
    named: tuple[str, ...],
    settings: tuple[str, ...],
    seconds: float,
    seeds: int,
    processes: int,
    split: str,
    n: int,
    count: int,
    extractors: tuple[str, ...],
    copy_tiles: int,
    train_donors: int,
    consecutive: tuple[str, ...],
    curves: bool,
    calibrated: bool,
    dry_run: bool,
    device: Any,
) -> None:
    from rnagan.comparison.generator_rows import read_rows

    rows = read_rows(named, settings)
    if (vae is None) == (embedding is None):
        raise click.UsageError("Give --vae or --embedding, one of them: what the profiles are read by.")
    from rnagan.comparison.generator_cells import Sources
    from rnagan.comparison.generator_scores import Evaluation
    from rnagan.comparison.generator_table import Budget, compare_generators, witness_of_rows

    on_gpu = device.type == "cuda"
    if on_gpu and processes > 1:
        raise click.UsageError("--processes is for CPUs: trainings at once on one GPU would take each other's time.")
    how = Evaluation(
        split=split,
        n=n,
        tiles=count,
        extractors=extractors,
        witness=witness_of_rows(rows),
        copies=copy_tiles,
        train_donors=train_donors,
        curves=curves,
        calibrated=calibrated,
        seed=0,
        truth=truth,
        consecutive=consecutive,
        device=device,
    )
    sources = Sources(shards, cohort, expression, vae, embedding)
    budget = Budget(seconds, tuple(range(seeds)), processes, on_gpu)
    options.echo_lines(compare_generators(rows, sources, budget, how, out, dry_run))


if __name__ == "__main__":
    main()
