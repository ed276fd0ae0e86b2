"""What the evaluation of a β-VAE says: its page with the pictures, and lines for the terminal."""

from pathlib import Path
from typing import Any

from rnagan.reports.pages import embedded, write_template
from rnagan.reports.vae_figures import MODELS

PAGE = "report.html"
ERRORS = {
    "rmse_z": "RMSE, the encoder's units",
    "rmse_log": "RMSE, log units",
    "absolute_error_percent": "mean absolute error, %",
    "percentage_error_nonzero": "mean of |x − x̂| / |x| without zeros, %",
    "pearson": "correlation of a gene, median",
    "r2": "R² of a gene, median",
}
PICTURES = {  # name of the .png, caption
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


def write_report(out: Path, result: dict[str, Any]) -> None:
    """Write the page of the result of `evaluate_vae`, with the pictures that are in `out`."""
    pictures = {name: embedded([(out / f"{name}.png", caption)]) for name, caption in PICTURES.items()}
    models = MODELS | {"mean": "training mean"}
    write_template(out / PAGE, "vae.html", found=result, errors=ERRORS, models=models, pictures=pictures)


def _by(found: dict[str, Any], space: str) -> str:
    """The distance of a figure in words; results of earlier versions don't name it."""
    return f" ({found['neighbours_by'][space].replace('_', '-')})" if "neighbours_by" in found else ""


def summary_lines(result: dict[str, Any], out: Path) -> list[str]:
    """The result of `evaluate_vae` as lines for the terminal."""
    lines = [f"{out / PAGE}: {result['profiles']:,} profiles, {result['active_units']} active units."]
    lines += [result["claim"]] if "claim" in result else []
    for name in ("vae", "pca"):
        found, right = result["reconstruction"][name], result["tissue_knn"][name]
        tissue = "–" if right is None else f"{right:.1%}"
        lines.append(
            f"{MODELS[name]:6} RMSE {found['rmse_z']:.3f} (encoder's units), {found['rmse_log']:.3f} (log); mean "
            f"absolute error {found['absolute_error_percent']:.1f}%; tissue called right {tissue}{_by(result, name)}."
        )
    if "external" in result:
        external = result["external"]
        rates = ", ".join(f"{MODELS[k]} {v:.1%}{_by(external, k)}" for k, v in external["tissue_knn"].items())
        lines.append(f"External tissue called right: {rates}; {result['external']['far']:.0%} of its samples far.")
        lines += [warning] if (warning := result["external"].get("imbalance")) else []
    for row in result.get("missing_genes", []):
        if row["rmse_missing"] is not None:
            moved = "–" if row["moved_sd"] is None else f"{row['moved_sd']:.2f}"
            lines.append(
                f"{row['model']}: {row['share']:.0%} of genes missing ({row['gap']}): their RMSE "
                f"{row['rmse_missing']:.3f}, the training mean's {row['rmse_missing_mean']:.3f}; the latent moves "
                f"{moved} SDs."
            )
    return lines
