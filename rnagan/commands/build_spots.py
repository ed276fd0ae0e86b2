"""Make tiles centred on the spots of spatial transcriptomics, each with its spot's profile, and the spots' counts.

The table of sections has the columns section, donor, tissue and path, and perhaps image, mpp, site and bin; a path is a
folder of Space Ranger (Visium, Visium HD) or of a Xenium run, an .h5ad with obsm["spatial"], SpatialData (.zarr), or a
folder of Spatial Transcriptomics.
OUT gets a shard for each section, spots.csv and counts.h5ad, from which rnagan build-cohort and build-expression go on,
and in OUT/qc a picture of each section.
Start it again to go on: only what is missing or changed is made. Sections that fail are listed at the end and in
OUT/failures.csv, and the exit code is 1.
"""

import os
from pathlib import Path

import click

from rnagan.commands import options
from rnagan.commands.build_report import build_limits, report_build
from rnagan.commands.config_options import config_options
from rnagan.config.base import resolve
from rnagan.config.spots import SpotTilingConfig
from rnagan.io.files import read_yaml
from rnagan.runtime.workers import Workers


@click.command(help=__doc__, context_settings={"show_default": True})
@options.plain_errors
@click.option("--sections", "table", type=options.PATH, required=True, help="Table of the sections, a row each.")
@click.option("--out", required=True, type=options.NEW_FOLDER, help="Folder of the shards and tables.")
@click.option(
    "--trust-positions", is_flag=True, help="Take positions as they are, without comparing them with the tissue."
)
@click.option("--qc/--no-qc", default=True, help="Draw a picture of each section and a contact sheet into OUT/qc.")
@build_limits("section")
@options.workers(default_processes=min(2, os.cpu_count() or 1))
@click.option("--config", "config_file", type=options.FILE, help="YAML file of the settings below; flags win.")
@config_options(SpotTilingConfig)
@click.pass_context
def main(
    context: click.Context,
    table: Path,
    out: Path,
    trust_positions: bool,
    qc: bool,
    verify: bool,
    max_failures: int,
    max_without_tiles: float,
    max_unreadable: float,
    workers: Workers,
    config_file: Path | None,
    settings: dict,
) -> None:
    config = resolve(SpotTilingConfig, read_yaml(config_file) if config_file else {}, settings)
    from rnagan.data.build_jobs import BuildOptions
    from rnagan.spatial.spot_shards import build_spots

    how = BuildOptions(workers, None, max_failures or None, verify)
    summary, lines = build_spots(
        table, out, config, how, trust_positions=trust_positions, qc=qc, max_unreadable=max_unreadable
    )
    options.echo_lines(lines)
    report_build(context, summary, out, how, max_without_tiles)


if __name__ == "__main__":
    main()
