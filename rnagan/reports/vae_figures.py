"""Pictures of a β-VAE's evaluation: UMAP by tissue and origin, errors by tissue and gene, the cost of missing genes."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from rnagan.reports.figures import COLOURS, in_legend, save_figure

MARKERS = {"real": "o", "reconstructed": "x", "generated": "^", "shifted": "D"}
MODELS = {"vae": "β-VAE", "pca": "PCA", "input": "encoder's input", "z_scores": "Z scores"}
DPI = 130
_LEAST_GAP = 0.045  # between numbers on a map, share of its side


def umap_by_tissue(path: Path, title: str, points: pd.DataFrame) -> None:
    """A map of `points` (columns x, y, tissue, origin).

    Colour is the tissue, marker the origin. From eight tissues on colours repeat, and a number stands above the points
    of each tissue.
    """
    tissues = sorted(points["tissue"].unique())
    colour = {tissue: COLOURS[k % len(COLOURS)] for k, tissue in enumerate(tissues)}
    many = len(tissues) > len(COLOURS)
    figure, axis = plt.subplots(figsize=(9.6 if many else 8.4, 6.4), layout="constrained")
    for origin in (name for name in MARKERS if name in set(points["origin"])):
        for tissue in tissues:
            chosen = points[(points["origin"] == origin) & (points["tissue"] == tissue)]
            _scatter(axis, chosen, MARKERS[origin], colour[tissue])
    if many:
        _numbers(axis, np.stack([_midst(points.loc[points["tissue"] == t, ["x", "y"]].to_numpy()) for t in tissues]))
    axis.set(title=title, xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    origins = [Line2D([], [], **_style(MARKERS[o], "0.3"), label=o) for o in MARKERS if o in set(points["origin"])]
    names = [f"{k + 1}  {tissue}" if many else in_legend(tissue) for k, tissue in enumerate(tissues)]
    tissue_marks = [Line2D([], [], marker="s", ls="", ms=7, c=colour[t]) for t in tissues]
    # One legend: constrained layout would lay two over one another.
    heads = [Line2D([], [], ls="", label="Origin"), *origins, Line2D([], [], ls="", label=""), Line2D([], [], ls="")]
    labels = ["Origin", *(str(mark.get_label()) for mark in origins), "", "Tissue", *names]
    handles = [*heads, *tissue_marks]
    columns = 1 if len(labels) <= 26 else 2
    legend = figure.legend(
        handles, labels, loc="outside right upper", ncols=columns, fontsize=8, frameon=False, columnspacing=1.2
    )
    for text in legend.get_texts():
        if text.get_text() in ("Origin", "Tissue"):
            text.set_fontweight("bold")
    save_figure(figure, path, DPI)


def rmse_by_tissue(path: Path, per_profile: pd.DataFrame) -> None:
    """Boxes of each tissue's RMSE, best median first (article: figure S3), and PCA's median beside.

    `per_profile`: one row a profile, columns tissue, rmse and pca_rmse.
    """
    groups = per_profile.groupby("tissue")
    order = groups["rmse"].median().sort_values().index.tolist()
    figure, axis = plt.subplots(figsize=(7.2, 1.6 + 0.26 * len(order)), layout="constrained")
    places = np.arange(len(order))[::-1]
    axis.boxplot(
        [groups.get_group(tissue)["rmse"].to_numpy() for tissue in order],
        positions=places,
        orientation="horizontal",
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": "#CFE3F2", "edgecolor": COLOURS[0]},
        medianprops={"color": COLOURS[0], "lw": 2},
        flierprops={"marker": "o", "markersize": 3, "markeredgecolor": "0.5"},
        whiskerprops={"color": COLOURS[0]},
        capprops={"color": COLOURS[0]},
    )
    axis.scatter(groups["pca_rmse"].median()[order], places, marker="D", s=22, c=COLOURS[5], zorder=3)
    counts = groups.size()
    axis.set_yticks(places, [f"{tissue} ({counts[tissue]})" for tissue in order], fontsize=8)
    axis.set(
        xlabel="RMSE of a profile's genes, units of the transform's scores",
        title="Error of reconstruction by tissue (profiles)",
    )
    axis.grid(axis="x", c="0.92")
    axis.set_axisbelow(True)
    marks = [
        Line2D([], [], marker="s", ls="", ms=8, mfc="#CFE3F2", mec=COLOURS[0], label="β-VAE: quartiles and range"),
        Line2D([], [], marker="D", ls="", ms=5, c=COLOURS[5], label="PCA: median"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    save_figure(figure, path, DPI)


def gene_histograms(path: Path, genes: pd.DataFrame) -> None:
    """How many genes are rebuilt how well: correlation and R², β-VAE filled, PCA as a line (columns of genes.csv)."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
    for axis, name, title in zip(
        axes, ("pearson", "r2"), ("Correlation of real and rebuilt", "R² (below −0.2 at −0.2)"), strict=True
    ):
        values, beside = (genes[column].dropna().clip(lower=-0.2) for column in (name, f"pca_{name}"))
        bins = np.linspace(-0.2, 1, 49)
        axis.hist(values, bins, color="#9CC6E4", label=f"β-VAE (median {values.median():.2f})")
        label = f"PCA (median {beside.median():.2f})"
        axis.hist(beside, bins, histtype="step", color=COLOURS[5], lw=1.4, label=label)
        axis.set(title=title, xlabel="value of a gene over test profiles", ylabel="genes")
        axis.legend(fontsize=8, frameon=False, loc="upper left")
    save_figure(figure, path, DPI)


def missing_gene_curves(path: Path, costs: pd.DataFrame) -> None:
    """Four panels on the share of genes missing: error of the missing, error of all, tissue, movement of the latent.

    `costs`: rows of `cost_of_gaps` with a column `model`. Lines are means of random gaps with their range; stars are
    real gaps.
    """
    panels = {
        "rmse_missing": "RMSE of the missing genes, units of the transform's scores",
        "rmse": "RMSE of all genes, units of the transform's scores",
        "tissue_knn": "Tissue called right in the latent",
        "moved_sd": "Movement of the latent, SDs",
    }
    figure, axes = plt.subplots(2, 2, figsize=(9.2, 6.8), layout="constrained", sharex=True)
    random = costs["gap"].str.endswith("%") | (costs["gap"] == "none")
    for axis, (name, title) in zip(axes.flat, panels.items(), strict=True):
        for k, (model, rows) in enumerate(costs.groupby("model", sort=False)):
            _curve(axis, rows[random[rows.index]], name, COLOURS[(0, 5, 2, 3)[k % 4]], str(model))
            real = rows[~random[rows.index]]
            axis.scatter(real["share"], real[name], marker="*", s=90, c=COLOURS[(0, 5, 2, 3)[k % 4]], ec="k", lw=0.4)
        if name == "rmse_missing":
            first = costs[random & (costs["model"] == costs["model"].iloc[0])]
            _curve(axis, first, "rmse_missing_mean", "0.5", "training mean in their place", "--")
        axis.set_title(title, fontsize=10)
        axis.grid(c="0.92")
    tissue = axes[1, 0]
    low, high = tissue.get_ylim()
    tissue.set_ylim(low, min(high, 1.005))
    tissue.yaxis.set_major_formatter(PercentFormatter(1))
    for axis in axes[1]:
        axis.set_xlabel("share of genes missing")
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if not random.all():
        handles.append(Line2D([], [], marker="*", ls="", ms=10, c="w", mec="k"))
        labels.append("genes that another cohort has")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    save_figure(figure, path, DPI)


def external_accuracy(path: Path, table: pd.DataFrame) -> None:
    """Share of external samples called right, by tissue and space (rows of `accuracy_by_tissue`)."""
    spaces = [name for name in MODELS if name in table]
    figure, axis = plt.subplots(figsize=(7.2, 1.6 + 0.3 * len(table)), layout="constrained")
    places = np.arange(len(table))[::-1]
    for k, name in enumerate(spaces):
        offset = 0.18 * ((len(spaces) - 1) / 2 - k)
        marker = "oDs^"[k]
        axis.scatter(table[name], places + offset, marker=marker, s=34, c=COLOURS[(0, 5, 2, 3)[k]], label=MODELS[name])
    axis.set_yticks(places, [f"{t} ({n})" for t, n in zip(table["tissue"], table["samples"], strict=True)], fontsize=8)
    axis.set(xlim=(-0.04, 1.04), title="Tissue of external samples, by their neighbours in training")
    axis.set_xlabel("share called right (samples behind the tissue)")
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for place in places[:-1] - 0.5:
        axis.axhline(place, c="0.92" if place != 1.5 else "0.4", lw=0.8)  # the two means are set apart
    figure.legend(loc="outside lower center", ncols=len(spaces), fontsize=9, frameon=False)
    save_figure(figure, path, DPI)


def _curve(axis: Axes, rows: pd.DataFrame, column: str, colour: str, label: str, style: str = "-") -> None:
    groups = rows.groupby("share")[column]
    mean, low, high = groups.mean(), groups.min(), groups.max()
    axis.plot(mean.index, mean, style, c=colour, marker="o", ms=4, label=in_legend(label))
    axis.fill_between(mean.index, low, high, color=colour, alpha=0.15, lw=0)


def _style(marker: str, colour: str) -> dict:
    edge = "0.25" if marker in "^D" else colour
    return {"marker": marker, "ls": "", "ms": 6, "mfc": colour, "mec": edge, "mew": 1.2 if marker == "x" else 0.5}


def _scatter(axis: Axes, rows: pd.DataFrame, marker: str, colour: str) -> None:
    if marker == "x":
        axis.scatter(rows["x"], rows["y"], marker="x", s=26, c=colour, linewidths=1.1, zorder=3)
    else:
        edge = "white" if marker == "o" else "0.25"
        axis.scatter(rows["x"], rows["y"], marker=marker, s=26, c=colour, edgecolors=edge, linewidths=0.4, zorder=2)


def _midst(places: NDArray[np.floating]) -> NDArray[np.floating]:
    """The one of `places` (samples, 2) with the least distance to all others: of two groups, not the void between."""
    return places[np.linalg.norm(places[:, None] - places[None], axis=-1).sum(axis=1).argmin()]


def _numbers(axis: Axes, points: NDArray[np.floating]) -> None:
    """1, 2 … above `points` (tissues, 2), pushed apart until none covers another."""
    low, high = (np.array([f(lim) for lim in (axis.get_xlim(), axis.get_ylim())]) for f in (min, max))
    places = (points - low) / (high - low) + [0, 0.03]
    places += 1e-4 * np.arange(len(points))[:, None]  # none on top of another
    for _ in range(200):
        apart = places[:, None] - places[None]
        distance = np.linalg.norm(apart, axis=-1) + np.eye(len(places))
        push = np.clip(_LEAST_GAP - distance, 0, None) / 2
        if not push.any():
            break
        places = places + (apart / distance[..., None] * push[..., None]).sum(axis=1)
    for k, place in enumerate(places * (high - low) + low):
        text = axis.text(place[0], place[1], str(k + 1), fontsize=9, weight="bold", ha="center", va="center", zorder=5)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
