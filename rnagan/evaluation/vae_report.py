"""One self-contained HTML page of a β-VAE's evaluation."""

from pathlib import Path
from typing import Any

from rnagan.evaluation.report import embedded, write_template
from rnagan.evaluation.vae_figures import MODELS

ERRORS = {
    "rmse_z": "RMSE, Z scores",
    "rmse_log": "RMSE, log units",
    "absolute_error_percent": "mean absolute error, %",
    "percentage_error_nonzero": "mean of |x − x̂| / |x| without zeros, %",
    "pearson": "correlation of a gene, median",
    "r2": "R² of a gene, median",
}
CAPTIONS = {
    "umap_pair": "Two tissues: real held-out profiles, their reconstructions, and profiles drawn around "
    "the tissue's centroid (article: figure 2A).",
    "umap_shifted": "Real profiles of each shifted to the other by the difference of the centroids; a shifted profile "
    "has the colour of the tissue that it was moved to (article: figure 2B).",
    "umap_reconstructed": "All tissues: held-out profiles and their reconstructions.",
    "umap_generated": "All tissues: held-out profiles and generated ones (article: figure 2C).",
    "rmse_per_tissue": "Error of reconstruction by tissue (article: figure S3).",
    "genes": "Genes by how well they are rebuilt over held-out profiles.",
    "external": "Another cohort: tissue called by the nearest training profiles.",
    "missing_genes": "What missing genes cost: the same genes hidden from all held-out profiles, five draws a share; "
    "the band is their range.",
}


def write_vae_report(out: Path, result: dict[str, Any]) -> None:
    """Write `out/report.html` from what `evaluate_vae` found and the pictures that it wrote to `out`."""
    pictures = {name: embedded([(out / f"{name}.png", caption)]) for name, caption in CAPTIONS.items()}
    models = MODELS | {"mean": "training mean"}
    write_template(out / "report.html", "vae.html", found=result, errors=ERRORS, models=models, pictures=pictures)
