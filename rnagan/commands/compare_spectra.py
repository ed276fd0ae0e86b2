"""Compare the spectra of generated and real tiles, which show a checkerboard of transposed convolutions."""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model(multiple=True)
@options.tiles()
@options.out_folder("Folder for spectra.json and spectra.png.")
@options.split()
@options.n(8, "Tiles a slide.")
@options.seed()
@options.device()
def main(models: tuple[Path, ...], out: Path, split: str, n: int, seed: int, device: Any, **inputs: Any) -> None:
    from rnagan.evaluation.spectra import compare_spectra
    from rnagan.evaluation.test_set import EvaluationInputs

    evaluated = EvaluationInputs(models[0], beside=models[1:], **inputs)
    result = compare_spectra(evaluated, out, split, n, seed, device)
    for name, found in result["models"].items():
        each = ", ".join(f"{period} px {ratios['prominence']:.2f}" for period, ratios in found["over_real"].items())
        verdict = "within" if found["within_tolerance"] else "not within"
        options.echo(f"{name}: checkerboards stand out as in real tiles times {each}; {verdict} 10%.")
    if "claim" in result:
        options.echo(result["claim"])


if __name__ == "__main__":
    main()
