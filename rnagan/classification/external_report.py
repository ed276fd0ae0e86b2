"""What an evaluation on an external cohort tells: numbers, pictures, page and lines."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import rnagan
from rnagan.classification.config import ClassifierConfig
from rnagan.classification.figures import confusion_figure
from rnagan.classification.painted import Painted
from rnagan.classification.trainer import Trained
from rnagan.evaluation.report import embedded, write_template
from rnagan.pictures import grid, save_png, synthetic_texts
from rnagan.pretrained import RNAGAN

ARTICLE = {"accuracy": 0.805, "f1": 0.797, "auc": 0.805}  # brain cortex and lung of GSE120795
SETS = {"real": "held-out real tiles", "painted": "tiles painted from the external cohort"}
_GRID_ROWS, _GRID_COLUMNS = 5, 20


def about_run(
    model: RNAGAN, chosen: dict[str, pd.DataFrame], painted: Painted, trained: Trained, config: ClassifierConfig
) -> dict[str, Any]:
    """Profiles and how far to trust them, real tiles and donors, and how training went."""
    profiles = painted.about.drop_duplicates("profile")
    trust = {
        tissue: {
            "profiles": len(own),
            "external": sorted(own["external"].unique()),
            "far": float(own["far"].mean()),
            "missing_genes": float(own["missing"].mean()),
            "distance": float(own["distance"].median()),
        }
        for tissue, own in (*profiles.groupby("tissue"), ("all", profiles))
    }
    return {
        "profiles": trust,
        "real": {
            name: {"tiles": int(rows["tiles"].sum()), "donors": int(rows["donor"].nunique())}
            for name, rows in chosen.items()
        },
        "training": {name: value for name, value in trained._asdict().items() if name != "network"},
        "model": model.digest,
        "settings": config.to_dict(),
        "rnagan": rnagan.__version__,
    }


def draw(out: Path, result: dict[str, Any], painted: Painted, model: RNAGAN, config: ClassifierConfig) -> None:
    """Write the grid of painted tiles, the confusion matrices and the page."""
    about = painted.about
    columns = min(_GRID_COLUMNS, int(about["tissue"].value_counts().min()))
    rows = []
    for tissue in result["classes"]:
        own = np.flatnonzero(about["tissue"] == tissue)
        own = own[: columns * min(_GRID_ROWS, len(own) // columns)]
        rows.append(painted.tiles[own].reshape(-1, columns, *painted.tiles.shape[1:]))
    texts = synthetic_texts(model.digest, f"{about['profile'].nunique()} external profiles", config.seed, model.mpp)
    save_png(out / "painted.png", grid(np.concatenate(rows)), texts)
    confusion_figure(
        out / "confusion.png",
        {SETS[name]: np.array(found["confusion"]) for name, found in result["found"].items()},
        result["classes"],
    )
    shown = ", then ".join(
        f"{len(part)} {'row' if len(part) == 1 else 'rows'} of {tissue}"
        for tissue, part in zip(result["classes"], rows, strict=True)
    )
    pictures = [
        (out / "painted.png", f"Painted from the external cohort's profiles: {shown} (article: figure 4D)."),
        (out / "confusion.png", "Confusion matrices of both sets."),
    ]
    write_template(out / "report.html", "external.html", pictures=embedded(pictures), result=result)


def told(result: dict[str, Any], out: Path) -> list[str]:
    """The result, line by line."""
    trust = result["profiles"]["all"]
    lines = [
        f"{trust['profiles']:,} profiles, of which {trust['far']:.0%} are unlike the training profiles; "
        f"{trust['missing_genes']:.0%} of the model's genes are missing."
    ]
    for name, found in result["found"].items():
        parts = [f"{m} {found[m]['value']:.3f} ({found[m]['low']:.3f} to {found[m]['high']:.3f})" for m in ARTICLE]
        lines.append(f"{SETS[name]}: {', '.join(parts)}")
    paper = ", ".join(f"{name} {value:.3f}" for name, value in ARTICLE.items())
    return [*lines, f"the article, brain cortex and lung of GSE120795: {paper}", f"{out / 'report.html'}"]
