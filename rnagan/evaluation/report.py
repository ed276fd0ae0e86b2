"""One self-contained HTML page, and the same figures as JSON, from an evaluation and the runs before it."""

import base64
from pathlib import Path
from typing import Any

import jinja2

from rnagan.evaluation.figures import LABELS, curves
from rnagan.files import write_json, write_text

GAN_CURVES = {"wasserstein": "Wasserstein estimate", "penalty": "gradient penalty", "generator": "generator's loss"}
VAE_CURVES = {"train_total": "training loss", "validation_total": "validation loss", "train_kl": "KL, nats"}


def write_report(
    out: Path,
    title: str,
    lead: str,
    evaluation: dict[str, Any],
    pictures: Path,
    metrics: dict[str, list[dict[str, Any]]],
    stages: list[dict[str, Any]],
    peak_memory_gb: float,
    mlflow: str,
) -> None:
    """Write `out/report.html` and `out/summary.json`.

    `evaluation` is what `evaluate` returned and `pictures` the folder it wrote to; `metrics` holds the rows of
    metrics.jsonl of the runs "vae" and "rnagan"; `stages` has name, command and seconds of each step; `mlflow` is the
    command that opens MLflow.
    """
    faithful = evaluation.get("faithfulness", {})
    rows = [
        {"tissue": tissue, "measure": name, "label": LABELS[name]} | found
        for tissue, measures in faithful.items()
        for name, found in measures.items()
    ]
    charts = [
        (
            pictures / "measures.png",
            "Each point is the profile of a held-out donor: its painted (and real) tiles against the truth.",
        )
    ]
    for name, columns, x_label in (("rnagan", GAN_CURVES, "real tiles shown"), ("vae", VAE_CURVES, "profiles shown")):
        path = out / "curves" / f"{name}.png"
        curves(path, metrics[name], columns, x_label)
        charts.append((path, f"Training of {name}."))
    tiles = [
        (pictures / name, f"{Path(name).stem}: one row a donor, real tiles at the left, painted ones at the right.")
        for name in evaluation["pictures"]
    ]
    environment = jinja2.Environment(loader=jinja2.PackageLoader("rnagan.evaluation"), autoescape=True)
    write_text(
        out / "report.html",
        environment.get_template("report.html").render(
            title=title,
            lead=lead,
            rows=rows,
            stages=stages,
            peak_memory_gb=peak_memory_gb,
            mlflow=mlflow,
            tiles=embedded(tiles),
            charts=embedded(charts),
            profiles=evaluation["profiles"],
            tissue_accuracy=evaluation["tissue_accuracy"],
            tissue_accuracy_real=evaluation["tissue_accuracy_real"],
        ),
    )
    write_json(
        out / "summary.json",
        {
            "faithfulness": faithful,
            "tissue_accuracy": evaluation["tissue_accuracy"],
            "tissue_accuracy_real": evaluation["tissue_accuracy_real"],
            "profiles": evaluation["profiles"],
            "tiles_per_profile": evaluation["tiles_per_profile"],
            "model": evaluation["model"],
            "seconds": {stage["name"]: round(stage["seconds"], 1) for stage in stages},
            "peak_memory_gb": round(peak_memory_gb, 2),
        },
    )


def embedded(pictures: list[tuple[Path, str]]) -> list[dict[str, str]]:
    """PNGs as data URIs with captions; a picture that this kind of cohort doesn't have is left out."""
    return [
        {"data": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"), "caption": caption}
        for path, caption in pictures
        if path.is_file()
    ]
