"""Checks a folder of shards, mends its indexes and digest, adopts shards made by others, and says how they mix."""

import time
from pathlib import Path

import click

from rnagan.commands.options import config_options, plain_errors, worker_options
from rnagan.config.base import resolve
from rnagan.config.gan import GANConfig

LISTED = 200


@click.command(context_settings={"show_default": True})
@click.argument("folder")
@click.option("--decode", is_flag=True, help="Decode every image or profile too.")
@click.option("--repair", is_flag=True, help="Rebuild indexes and dataset.json from tars and records.")
@click.option("--index", "adopt", is_flag=True, help="First adopt tars made by others: index and record beside each.")
@click.option("--mpp", type=click.FloatRange(0, min_open=True), help="With --index: µm per px, where no json says it.")
@click.option(
    "--seed",
    default=0,
    type=click.IntRange(0),
    help="Of the order: of the index with --index, of training with --mixing.",
)
@click.option("--mixing", is_flag=True, help="Instead: different donors a batch of training tiles (--cohort).")
@click.option("--cohort", type=click.Path(path_type=Path), help="With --mixing: the cohort table.")
@config_options(GANConfig, only=("batch_size", "window_slides", "tiles_per_slide", "where", "tissue_weights"))
@worker_options(default_processes=1)
@click.pass_context
@plain_errors
def main(context, folder, decode, repair, adopt, mpp, seed, mixing, cohort, settings, workers):
    """Read every byte of a folder of shards: sums, sizes, keys, offsets, counts. Exit code 1 if anything is wrong.

    Nothing is deleted and no tar is touched; what --repair can't mend is told with what to do.
    """
    if mixing != bool(cohort) or (settings and not mixing):
        raise click.UsageError("--mixing needs --cohort; the settings of training and --cohort are for --mixing.")
    if mixing:
        from rnagan.data.mixing import describe_mixing

        click.echo(describe_mixing(folder, cohort, resolve(GANConfig, {"seed": seed}, settings)))
        return
    if not adopt and (mpp or seed):
        raise click.UsageError("--mpp and --seed are for --index (--seed for --mixing too).")
    from rnagan.data.import_webdataset import adopt_folder
    from rnagan.data.verify import check_folder

    refused = []
    if adopt:
        adopted, refused = adopt_folder(Path(folder), mpp, seed, workers)
        click.echo(f"{folder}: {len(adopted):,} tars adopted, {len(refused):,} refused.")
    began = time.monotonic()
    report = check_folder(folder, workers, decode, repair)
    told = {finding.file for finding in refused}
    findings = sorted([*refused, *(finding for finding in report.findings if finding.file not in told)])
    for finding in findings[:LISTED]:
        click.echo(str(finding), err=True)
    if len(findings) > LISTED:
        click.echo(f"… and {len(findings) - LISTED:,} more.", err=True)
    for finding in report.mended[:LISTED]:
        click.echo(str(finding))
    if report.leftovers:
        click.echo(
            f"{report.leftovers} temporary names of builds that run or were killed; the next build deletes these."
        )
    mended = f"{len(report.mended):,} mended, " if repair else ""
    click.echo(
        f"{folder}: {report.extent}, {report.bytes / 1e6:,.0f} MB read in "
        f"{time.monotonic() - began:.1f} s; {mended}{len(findings):,} findings."
    )
    context.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
