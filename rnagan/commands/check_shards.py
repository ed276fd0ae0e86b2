"""Check every byte of a folder of shards: sums, sizes, keys, offsets, counts. Exit code 1 if anything is wrong.

Nothing is deleted and no tar is touched; what --repair can't mend is listed with what to do.
"""

import contextlib
import time
from pathlib import Path

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_options
from rnagan.config.base import resolve
from rnagan.config.gan import GANConfig
from rnagan.runtime.workers import Workers

LISTED = 200


@click.command(help=__doc__, context_settings={"show_default": True})
@options.plain_errors
@click.argument("folder", type=options.FOLDER_OR_URL)
@click.option("--decode", is_flag=True, help="Decode every image or profile too.")
@click.option("--repair", is_flag=True, help="Rebuild indexes and dataset.json from tars and records.")
@click.option("--index", "adopt", is_flag=True, help="First adopt tars made by others: index and record beside each.")
@click.option("--mpp", type=click.FloatRange(0, min_open=True), help="With --index: µm per px, where no json says it.")
@options.seed("Of the order: of the index with --index, of training with --mixing.")
@click.option("--mixing", is_flag=True, help="Instead: different donors a batch of training tiles (--cohort).")
@click.option("--cohort", type=options.PATH, help="With --mixing: the cohort table.")
@config_options(GANConfig, only=("batch_size", "window_slides", "tiles_per_slide", "where", "tissue_weights"))
@options.workers(default_processes=1)
@click.pass_context
def main(
    context: click.Context,
    folder: str,
    decode: bool,
    repair: bool,
    adopt: bool,
    mpp: float | None,
    seed: int,
    mixing: bool,
    cohort: Path | None,
    settings: dict,
    workers: Workers,
) -> None:
    if mixing != bool(cohort) or (settings and not mixing):
        raise click.UsageError("--mixing needs --cohort; the settings of training and --cohort are for --mixing.")
    if cohort:
        from rnagan.cohort.table import read_cohort
        from rnagan.data.index import open_dataset
        from rnagan.data.selection import describe_mixing, make_order, select

        config = resolve(GANConfig, {"seed": seed}, settings)
        selection = select(open_dataset(folder), read_cohort(cohort), "train", config.tiles_per_slide, config.where)
        order = make_order(selection, seed, config.window_slides, config.tile_order, config.tissue_weights)
        options.echo(describe_mixing(selection, order, config.batch_size, config.window_slides))
        return
    if not adopt and (mpp or seed):
        raise click.UsageError("--mpp and --seed are for --index (--seed for --mixing too).")
    from rnagan.data.import_webdataset import adopt_folder
    from rnagan.data.verify import Finding, check_folder
    from rnagan.runtime.folder_lock import locked

    refused: list[Finding] = []
    began = time.monotonic()
    writes = Path(folder).is_dir() and (adopt or repair)
    with locked(folder, "rnagan check-shards") if writes else contextlib.nullcontext():
        if adopt:
            adopted, refused = adopt_folder(Path(folder), mpp, seed, workers)
            options.echo(f"{folder}: {len(adopted):,} tars adopted, {len(refused):,} refused.")
            began = time.monotonic()
        report = check_folder(folder, workers, decode, repair)
    known = {finding.file for finding in refused}
    findings = sorted([*refused, *(finding for finding in report.findings if finding.file not in known)])
    for finding in findings[:LISTED]:
        options.echo(str(finding), err=True)
    if len(findings) > LISTED:
        options.echo(f"… and {len(findings) - LISTED:,} more.", err=True)
    for finding in report.mended[:LISTED]:
        options.echo(str(finding))
    if report.leftovers:
        options.echo(
            f"{report.leftovers} temporary names of builds that run or were killed; the next build deletes these."
        )
    mended = f"{len(report.mended):,} mended, " if repair else ""
    options.echo(
        f"{folder}: {report.extent}, {report.bytes / 1e6:,.0f} MB read in "
        f"{time.monotonic() - began:.1f} s; {mended}{len(findings):,} findings."
    )
    context.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
