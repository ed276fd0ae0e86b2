"""Self-contained HTML pages from templates/: what every page uses, and the pages of an evaluation and of a demo."""

import base64
from pathlib import Path
from typing import Any

import jinja2

from rnagan.io.claim import stated
from rnagan.io.files import write_json, write_text
from rnagan.reports.figures import LOSSES, curves
from rnagan.reports.labels import MEASURES

_DASH = "–"
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
    charts = []
    for name, columns, x_label in (("rnagan", LOSSES, "real tiles shown"), ("vae", VAE_CURVES, "profiles shown")):
        path = out / "curves" / f"{name}.png"
        curves(path, {name: metrics[name]}, columns, x_label)
        charts.append((path, f"Training of {name}."))
    made = {"stages": stages, "peak_memory_gb": peak_memory_gb, "mlflow": mlflow, "curves": embedded(charts)}
    write_template(
        out / "report.html", "report.html", title=title, lead=lead, **made, **_evaluation_values(evaluation, pictures)
    )
    write_json(
        out / "summary.json",
        {
            "faithfulness": evaluation.get("faithfulness", {}),
            "retrieval": evaluation.get("retrieval", {}),
            "tissue_accuracy": evaluation["tissue_accuracy"],
            "tissue_accuracy_real": evaluation["tissue_accuracy_real"],
            "profiles": evaluation["profiles"],
            "tiles_per_profile": evaluation["tiles_per_profile"],
            "model": evaluation["model"],
            "split_by": evaluation.get("split_by", "donor"),
            "seconds": {stage["name"]: round(stage["seconds"], 1) for stage in stages},
            "peak_memory_gb": round(peak_memory_gb, 2),
        },
    )


def write_page(path: Path, evaluation: dict[str, Any], pictures: Path) -> None:
    """The page of one evaluation alone; arguments as in `write_report`."""
    lead = (
        f"Model {evaluation['model'][:12]}, {evaluation['profiles']:,} profiles of split {evaluation['split']}, "
        f"{evaluation['tiles_per_profile']} generated tiles each."
    )
    values = _evaluation_values(evaluation, pictures)
    write_template(path, "faithfulness.html", title="Does the tissue follow the RNA?", lead=lead, **values)


def _evaluation_values(evaluation: dict[str, Any], pictures: Path) -> dict[str, Any]:
    """The values of templates/evaluation.html."""
    tiles = [
        (pictures / name, f"{Path(name).stem}: one row a donor, real tiles at the left, generated ones at the right.")
        for name in evaluation["pictures"]
    ]
    against = "truth" if "faithfulness" in evaluation else "own real tiles"
    charts = [
        (pictures / "measures.png", f"Each point is the profile of a held-out donor: tiles against the {against}."),
        (
            pictures / "retrieval.png",
            "How near the right donor is: share of donors found at least as near as a place among those of their "
            "tissue. Chance is the diagonal.",
        ),
    ]
    pairs = evaluation.get("real_pairs", {})
    rows_of_pairs = [row for of in pairs.get("sections", {}).values() for row in of["measures"].values()]
    maps = [(pictures / name, "Measures of the spots' real and generated tiles.") for name in pairs.get("pictures", ())]
    return {
        "found": evaluation,
        "maps": embedded(maps),
        "consecutive": any("next_section" in row for row in rows_of_pairs),
        "against": against,
        "rows": measure_rows(evaluation),
        "retrieval": retrieval_rows(evaluation),
        "tiles": embedded(tiles),
        "charts": embedded(charts),
    }


def measure_rows(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each tissue and measure: held-out donors, r of the null and on training donors, and r and slope of
    donors who were left out (as of another centre) and of the calibrated model."""
    key = "faithfulness" if "faithfulness" in evaluation else "on_real_tiles"
    beside = [("null", "r"), ("train", "r")]
    beside += [(other, figure) for other in ("left_out", "calibrated") for figure in ("r", "slope")]
    return [
        {"tissue": tissue, "measure": name, "label": MEASURES[name]}
        | found
        | {
            f"{other}_{figure}": evaluation.get(other, {}).get(key, {}).get(tissue, {}).get(name, {}).get(figure)
            for other, figure in beside
        }
        for tissue, measures in evaluation.get(key, {}).items()
        for name, found in measures.items()
    ]


def retrieval_rows(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each tissue, kind of tiles and set of candidates: held-out donors, the null, then training donors
    and those who were left out."""
    rows = []
    for which, label in (("", "{}"), ("null", "null"), ("train", "training donors, {}"), ("left_out", "left out, {}")):
        found_in = (evaluation.get(which, {}) if which else evaluation).get("retrieval", {})
        for tissue, kinds in found_in.items():
            for kind, among in kinds.items():
                if which == "null" and kind == "real":
                    continue  # the same as beside the model
                for name, found in among.items():
                    candidates = "tissue" if name == "tissue" else "tissue and centre"
                    rows.append({"tissue": tissue, "tiles": label.format(kind), "among": candidates} | found)
    return sorted(rows, key=lambda row: row["tissue"])


def write_template(path: Path, template: str, **values: Any) -> None:
    """Write a page of templates/ by rename, with the claim that is stated. Templates extend page.html, share
    macros.html and have the filters below; a value that is None or missing is shown as a dash."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("rnagan.reports"), autoescape=True)
    environment.filters |= {"number": _number, "signed": _signed, "percent": _percent, "thousands": _thousands}
    claim = stated()
    said = "" if claim is None else claim.sentence
    write_text(path, environment.get_template(template).render(**{"claim": said} | values))


def _number(value: Any, digits: int = 2) -> str:
    return _DASH if _is_missing(value) else f"{value:.{digits}f}"


def _signed(value: Any, digits: int = 2) -> str:
    return _DASH if _is_missing(value) else f"{value:+.{digits}f}"


def _percent(value: Any, digits: int = 1) -> str:
    return _DASH if _is_missing(value) else f"{100 * value:.{digits}f}%"


def _thousands(value: Any) -> str:
    return _DASH if _is_missing(value) else f"{value:,}"


def _is_missing(value: Any) -> bool:
    return value is None or isinstance(value, jinja2.Undefined)


def embedded(pictures: list[tuple[Path, str]]) -> list[dict[str, str]]:
    """PNGs as data URIs with captions; a picture that this kind of cohort doesn't have is left out."""
    return [
        {"data": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"), "caption": caption}
        for path, caption in pictures
        if path.is_file()
    ]
