"""Evaluate a β-VAE on held-out profiles: reconstruction, tissues, what its latent can do, and another cohort."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.option("--vae", type=Path, required=True, help="Run of rnagan train-vae, its model folder, or an RNA-GAN.")
@click.option("--expression", type=Path, required=True, help="The .h5ad that it was trained on.")
@click.option("--out", type=Path, required=True, help="Folder for tables, pictures, report.html and summary.json.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--pair", nargs=2, metavar="TISSUE TISSUE", help="Shift between these.  [default: brain and lung]")
@click.option("--external", type=Path, help="Another cohort as .h5ad, with obs column tissue, in the same units.")
@click.option("--tissue-map", type=Path, help="CSV of columns external, ours, for tissues that it names otherwise.")
@click.option("--missing-genes", is_flag=True, help="Measure what missing genes cost.")
@click.option("--present-in", "gene_lists", type=Path, multiple=True, help="Genes (.h5ad or list) that a cohort has.")
@click.option("--beside", type=Path, help="Another β-VAE whose cost of missing genes is shown beside.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@plain_errors
def main(
    vae: Path,
    expression: Path,
    out: Path,
    split: str,
    pair: tuple[str, str] | None,
    external: Path | None,
    tissue_map: Path | None,
    missing_genes: bool,
    gene_lists: tuple[Path, ...],
    beside: Path | None,
    seed: int,
) -> None:
    from rnagan.evaluation.vae_evaluation import VAEEvaluationInputs, evaluate_vae, told

    inputs = VAEEvaluationInputs(vae, expression, external, tissue_map, beside, gene_lists)
    for line in told(evaluate_vae(inputs, out, split, pair, missing_genes, seed), out):
        click.echo(line)


if __name__ == "__main__":
    main()
