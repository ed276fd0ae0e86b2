"""Evaluate a β-VAE on held-out profiles: reconstruction, tissues, what its latent can do, and another cohort."""

from pathlib import Path
from typing import Any

import click

from rnagan.commands.options import echo_lines, out_option, plain_errors, seed_option, split_option, vae_option


@click.command(help=__doc__)
@plain_errors
@vae_option()
@click.option("--expression", type=Path, required=True, help="The .h5ad that it was trained on.")
@out_option("Folder for tables, pictures, report.html and summary.json.")
@split_option()
@click.option("--pair", nargs=2, metavar="TISSUE TISSUE", help="Shift between these.  [default: brain and lung]")
@click.option("--external", type=Path, help="Another cohort as .h5ad, with obs column tissue, in the same units.")
@click.option("--tissue-map", type=Path, help="CSV of columns external, ours, for tissues that it names otherwise.")
@click.option("--missing-genes", is_flag=True, help="Measure what missing genes cost.")
@click.option("--present-in", "gene_lists", type=Path, multiple=True, help="Genes (.h5ad or list) that a cohort has.")
@click.option("--beside", type=Path, help="Another β-VAE whose cost of missing genes is shown beside.")
@seed_option()
def main(out: Path, split: str, pair: tuple[str, str] | None, missing_genes: bool, seed: int, **inputs: Any) -> None:
    from rnagan.evaluation.vae_evaluation import VAEEvaluationInputs, evaluate_vae, told

    echo_lines(told(evaluate_vae(VAEEvaluationInputs(**inputs), out, split, pair, missing_genes, seed), out))


if __name__ == "__main__":
    main()
