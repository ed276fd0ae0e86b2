"""A whole demonstration: its stages, then the report."""

from pathlib import Path

from rnagan.demo.pipelines import SCALES, real, simulated
from rnagan.demo.stages import run_stages
from rnagan.evaluation.report import write_report
from rnagan.files import read_json
from rnagan.progress import say
from rnagan.training.run_folder import read_metrics

LEADS = {
    "simulated": "Tissue painted from gene expression, on a simulated cohort whose truth is known. Every tile at the "
    "right was painted from the profile of a donor whom neither the VAE nor the GAN has seen.",
    "real": "Lung and colon painted by one model from real GTEx profiles that it has not seen. Tiles (LC25000) and "
    "profiles come from different people and are paired by tissue, so within a tissue nothing can be claimed.",
}


def run_demo(out: Path, data: Path, source: Path | None, scale: str) -> None:
    """Run all stages into `out` and `data` and write `out/report.html` and `out/summary.json`.

    `source` is a folder of real tiles and expression (README.md); without it a cohort is simulated.
    """
    if source is not None and not source.is_dir():
        raise FileNotFoundError(f"The data folder {source} does not exist.")
    stages = simulated(out, data, SCALES[scale]) if source is None else real(out, data, source, SCALES[scale])
    records = run_stages(stages, out)
    mlflow = f".venv/bin/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///{out}/mlflow.db"
    write_report(
        out,
        "rnagan demo" if source is None else "rnagan demo on real tiles and expression",
        LEADS["simulated" if source is None else "real"],
        read_json(out / "evaluation" / "evaluation.json"),
        out / "evaluation",
        {name: read_metrics(out / name) for name in ("vae", "rnagan")},
        records,
        max(record["peak_memory_gb"] for record in records),
        mlflow,
    )
    seconds = sum(record["seconds"] for record in records)
    say(f"\nTook {seconds:.0f} s in all.\nReport: {out / 'report.html'}\nMLflow: {mlflow}")
