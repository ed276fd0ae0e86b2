"""Every table and figure of the article from a cohort, in order, into one report with the article's numbers beside
ours; what is done is kept. --dry-run tells what it would cost on this machine."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.option("--shards", required=True, help="Folder of tile shards, or its URL (rnagan build-tiles).")
@click.option("--cohort", type=Path, required=True, help="Cohort table (rnagan build-cohort).")
@click.option("--expression", type=Path, required=True, help="Expression .h5ad (rnagan build-expression).")
@click.option("--external", type=Path, help="Profiles of another cohort, as .h5ad with obs column tissue (figure 4D).")
@click.option("--tissue-map", type=Path, help="CSV of columns external, ours, for tissues that it names otherwise.")
@click.option("--truth", type=Path, help="Truth table of a simulated cohort (truth.csv).")
@click.option("--out", type=Path, required=True, help="Folder of all products and report.html.")
@click.option(
    "--preset", default="paper", show_default=True, help="Sizes: paper; small, hours on two CPU cores; toy, for trials."
)
@click.option("--config", "config_file", type=Path, help="YAML of sections vae, gan, …, over the preset's.")
@click.option("--launch", type=Path, help="Config of accelerate's launcher (launch_configs/…); else one process.")
@click.option("--dry-run", is_flag=True, help="Print experiments, images, steps and hours, and stop.")
@plain_errors
def main(
    shards: str,
    cohort: Path,
    expression: Path,
    external: Path | None,
    tissue_map: Path | None,
    truth: Path | None,
    out: Path,
    preset: str,
    config_file: Path | None,
    launch: Path | None,
    dry_run: bool,
) -> None:
    from rnagan.article.experiments import Cohort
    from rnagan.article.reproduce import cost_lines, reproduce
    from rnagan.config.reproduction import Settings

    settings = Settings.read(preset, config_file)
    on = Cohort(shards, cohort, expression, external, tissue_map, truth, launch)
    if dry_run:
        for line in cost_lines(on, settings):
            click.echo(line)
    else:
        click.echo(f"\nReport: {reproduce(on, settings, out)}")


if __name__ == "__main__":
    main()
