"""Check whether this machine is ready to train: versions, processors, limits, launches, and speed of tiles and steps.

Exit code 1 if there is a problem.
"""

import sys
from pathlib import Path

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_options, preset, read_config
from rnagan.config.gan import GANConfig

SETTINGS = (
    "resolution",
    "batch_size",
    "images",
    "where",
    "precision",
    "threads",
    "loader_threads",
    "loader_workers",
    "prefetch_batches",
    "window_slides",
)


@click.command(help=__doc__)
@options.plain_errors
@click.option(
    "--launch", "launches", type=options.PATH, multiple=True, help="Launch config to try; may be given several times."
)
@click.option(
    "--shards",
    type=options.FOLDER_OR_URL,
    help="Folder of tile shards to read, or its URL; --resolution is then theirs.",
)
@click.option("--cohort", type=options.PATH, help="Cohort table: only its training slides; without it, all slides.")
@preset(GANConfig, "faithful")
@click.option("--timeout", type=click.IntRange(1), default=60, show_default=True, help="Seconds a launch may take.")
@click.option("--json", "json_file", type=options.PATH, help="Write all figures to this file too.")
@config_options(GANConfig, only=SETTINGS)
def main(
    launches: tuple[Path, ...],
    shards: str | None,
    cohort: Path | None,
    preset: str,
    config_file: Path | None,
    timeout: int,
    json_file: Path | None,
    settings: dict,
) -> None:
    config = read_config(GANConfig, config_file, settings, preset)
    from rnagan.doctor.examine import Wanted, examine
    from rnagan.doctor.findings import is_ready, to_dict
    from rnagan.io.files import write_json

    fit_resolution = "resolution" not in settings and config_file is None
    sections = examine(Wanted(config, fit_resolution, launches, shards, cohort, timeout), options.echo)
    if json_file:
        write_json(json_file, to_dict(sections))
    sys.exit(0 if is_ready(sections) else 1)


if __name__ == "__main__":
    main()
