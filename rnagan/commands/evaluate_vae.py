"""Evaluate a β-VAE on held-out profiles: reconstruction, tissues, what its latent can do, and another cohort."""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.vae()
@click.option("--expression", type=options.PATH, required=True, help="The .h5ad that it was trained on.")
@options.out_folder("Folder for tables, pictures, report.html and summary.json.")
@options.split()
@click.option("--pair", nargs=2, metavar="TISSUE TISSUE", help="Shift between these.  [default: brain and lung]")
@click.option(
    "--external",
    type=options.PATH,
    help="Another cohort as .h5ad, with obs column tissue, in units that the model takes.",
)
@click.option(
    "--tissue-map", type=options.PATH, help="CSV of columns external, ours, for tissues that it names otherwise."
)
@click.option("--missing-genes", is_flag=True, help="Measure what missing genes cost.")
@click.option(
    "--present-in", "gene_lists", type=options.PATH, multiple=True, help="Genes (.h5ad or list) that a cohort has."
)
@click.option("--beside", type=options.PATH, help="Another β-VAE whose cost of missing genes is shown too.")
@options.seed()
@options.device()
def main(
    out: Path,
    split: str,
    pair: tuple[str, str] | None,
    missing_genes: bool,
    seed: int,
    device: Any,
    **inputs: Any,
) -> None:
    from rnagan.evaluation.vae_evaluation import VAEEvaluationInputs, evaluate_vae
    from rnagan.evaluation.vae_report import summary_lines

    found = evaluate_vae(VAEEvaluationInputs(**inputs), out, split, pair, missing_genes, seed, device)
    options.echo_lines(summary_lines(found, out))


if __name__ == "__main__":
    main()
