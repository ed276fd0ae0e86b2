"""The heat map of a confounder report: measures × covariates and programmes, real beside generated tiles."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rnagan.evaluation.confounder_page import FALSE_DISCOVERY_RATE
from rnagan.evaluation.confounders import LABELS
from rnagan.evaluation.covariates import label
from rnagan.files import atomic_path

KINDS = ("real", "generated")


def heat_map(path: Path, tissues: dict[str, Any]) -> None:
    """A row of two panels for each tissue of what `confounders.separate` found: real tiles, then generated ones.

    Colour is the share of variance, r² or η² less chance; the number is signed r, or η²; bold where the false discovery
    rate is below FALSE_DISCOVERY_RATE. A cell that couldn't be tested is grey.
    """
    shown = {tissue: told["associations"] for tissue, told in tissues.items() if told["associations"]}
    if not shown:
        return
    names = list(dict.fromkeys((row["what"], row["with"]) for rows in shown.values() for row in rows))
    names.sort(key=lambda name: name[0])  # covariates, then programmes
    size = (2.2 + 2 * 0.62 * len(names), 1.1 + 2.1 * len(shown))
    figure, axes = plt.subplots(len(shown), 2, figsize=size, squeeze=False, layout="constrained")
    for line, (tissue, rows) in zip(axes, shown.items(), strict=True):
        for axis, kind in zip(line, KINDS, strict=True):
            image = _panel(axis, [row for row in rows if row["tiles"] == kind], names)
            axis.set_title(f"{tissue}, {kind} tiles", fontsize=9)
            axis.set_yticks(range(len(LABELS)), LABELS.values() if axis is line[0] else [""] * len(LABELS), fontsize=8)
    figure.colorbar(image, ax=axes, label="share of variance", shrink=0.7, pad=0.01)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def _panel(axis: Axes, rows: list[dict[str, Any]], names: list[tuple[str, str]]) -> Any:
    share = np.full((len(LABELS), len(names)), np.nan)
    for row in rows:
        at = list(LABELS).index(row["measure"]), names.index((row["what"], row["with"]))
        share[at] = row["value"] ** 2 if row["figure"] == "r" else max(row["value"], 0)
        told = f"{row['value']:+.2f}" if row["figure"] == "r" else f"η² {max(row['value'], 0):.2f}"
        weight = "bold" if row["q"] < FALSE_DISCOVERY_RATE else "normal"
        colour = "white" if share[at] > 0.55 else "black"
        axis.text(at[1], at[0], told, ha="center", va="center", fontsize=7, weight=weight, color=colour)
    axis.set_facecolor("0.85")
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(names)), [label(name) for _, name in names], rotation=45, ha="right", fontsize=8)
    covariates = sum(what == "covariate" for what, _ in names)
    axis.axvline(covariates - 0.5, color="black", lw=1.2)
    return image
