"""Make every table and figure of the article from a cohort, in one report beside the article's own numbers.

What is done is kept. --dry-run says what it would cost on this machine.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.tiles(expression_required=True)
@click.option(
    "--external", type=options.PATH, help="Profiles of another cohort, as .h5ad with obs column tissue (figure 4D)."
)
@click.option(
    "--tissue-map", type=options.PATH, help="CSV of columns external, ours, for tissues that it names otherwise."
)
@options.truth()
@click.option(
    "--scores", type=options.PATH, help="What readers said of tiles, as CSV (figure 6); the article's own without it."
)
@options.out_folder("Folder of all products and report.html.")
@click.option(
    "--preset", default="paper", show_default=True, help="Sizes: paper; small, hours on two CPU cores; toy, for trials."
)
@click.option("--config", "config_file", type=options.PATH, help="YAML of sections vae, gan, …, over the preset's.")
@options.launch()
@options.dry_run("Print experiments, images, steps and hours, and stop.")
def main(out: Path, preset: str, config_file: Path | None, dry_run: bool, **inputs: Any) -> None:
    from rnagan.article.experiments import Cohort
    from rnagan.article.reproduce import cost_lines, reproduce
    from rnagan.config.reproduction import Settings

    settings, cohort = Settings.read(preset, config_file), Cohort(**inputs)
    if dry_run:
        options.echo_lines(cost_lines(cohort, settings))
    else:
        options.echo(f"\nReport: {reproduce(cohort, settings, out)}")


if __name__ == "__main__":
    main()
