"""Pictures of classifiers: confusion matrices and scores by fold."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnagan.evaluation.figures import plt, save_figure


def confusion_figure(path: Path, matrices: dict[str, NDArray[np.int64]], classes: list[str]) -> None:
    """A panel for each of `matrices` (true, called), coloured by the share of the true class."""
    side = max(2.4, 0.7 * len(classes) + 1.4)
    figure, axes = plt.subplots(1, len(matrices), figsize=(side * len(matrices) + 0.4, side), squeeze=False)
    for axis, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if shares[row, column] > 0.6 else "black"
            text = f"{count:,}\n{shares[row, column]:.0%}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(len(classes)), classes, fontsize=8)
        axis.set_yticks(range(len(classes)), classes, fontsize=8, rotation=90, va="center")
        axis.set_xlabel("called", fontsize=8)
        axis.set_ylabel("is", fontsize=8)
    save_figure(figure, path)


def fold_figure(path: Path, scores: dict[str, dict[str, list[float]]]) -> None:
    """A panel for each measure: the score of each fold by start; lines join the same fold, bars are means."""
    measures = list(next(iter(scores.values())))
    figure, axes = plt.subplots(1, len(measures), figsize=(3.2 * len(measures), 2.8), squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        values = np.array([found[measure] for found in scores.values()])
        axis.plot(values, "-", color="0.75", lw=1, zorder=1)
        axis.plot(values, "o", color="tab:purple", ms=4, alpha=0.8)
        axis.plot(values.mean(axis=1), "_", color="black", ms=24)
        axis.set_xticks(range(len(scores)), list(scores), fontsize=8)
        axis.set_xlim(-0.5, len(scores) - 0.5)
        axis.set_title({"f1": "F1 (macro)"}.get(measure, measure), fontsize=9)
        axis.tick_params(axis="y", labelsize=7)
    save_figure(figure, path)
