"""Compare the spectra of generated and real tiles: is there a checkerboard of transposed convolutions?"""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.option(
    "--model", "models", type=Path, required=True, multiple=True, help="Run of rnagan train-rnagan; may be repeated."
)
@click.option("--shards", required=True, help="Folder of tile shards, or its URL.")
@click.option("--cohort", type=Path, required=True, help="Cohort table.")
@click.option("--expression", type=Path, help="Expression .h5ad; not for modes gan and noise_only.")
@click.option("--out", type=Path, required=True, help="Folder for spectra.json and spectra.png.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--n", type=click.IntRange(min=1), default=8, show_default=True, help="Tiles a slide.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@plain_errors
def main(
    models: tuple[Path, ...],
    shards: str,
    cohort: Path,
    expression: Path | None,
    out: Path,
    split: str,
    n: int,
    seed: int,
) -> None:
    from rnagan.evaluation.spectra import compare_spectra
    from rnagan.evaluation.test_set import TileInputs

    result = compare_spectra(list(models), TileInputs(shards, cohort, expression), out, split, n, seed)
    for name, told in result["models"].items():
        each = ", ".join(f"{period} px {ratios['prominence']:.2f}" for period, ratios in told["over_real"].items())
        verdict = "within" if told["within_tolerance"] else "not within"
        click.echo(f"{name}: checkerboards stand out as in real tiles times {each}; {verdict} 10%.")


if __name__ == "__main__":
    main()
