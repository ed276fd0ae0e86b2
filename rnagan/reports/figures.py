"""Pictures of runs and evaluations: tiles beside tiles, curves, scatter plots, confusion matrices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rnagan.io.files import atomic_path
from rnagan.io.images import grid, save_png
from rnagan.reports.labels import MEASURES

GAP = 2  # px between the tiles of a sample grid
LOSSES = {"wasserstein": "Wasserstein estimate", "penalty": "gradient penalty", "generator": "generator loss"}


def tiles_of_grid(path: Path, side: int) -> NDArray[np.uint8]:
    """The tiles (rows, columns, side, side, 3) of a sample grid that a run has saved."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    rows, columns = ((length + GAP) // (side + GAP) for length in pixels.shape[:2])
    if pixels.shape[:2] != (rows * (side + GAP) - GAP, columns * (side + GAP) - GAP):
        raise ValueError(f"{path} is no grid of tiles of {side} px.")
    padded = np.pad(pixels, ((0, GAP), (0, GAP), (0, 0)))
    blocks = padded.reshape(rows, side + GAP, columns, side + GAP, 3)[:, :side, :, :side]
    return blocks.transpose(0, 2, 1, 3, 4)


def side_by_side(
    path: Path, rows: Mapping[str, Sequence[NDArray[np.uint8]]], columns: Sequence[str], texts: dict[str, str]
) -> None:
    """A PNG with one row for each label and one column for each title; a cell is a block of tiles (r, c, H, W, 3)."""
    cells = {label: [grid(block) for block in blocks] for label, blocks in rows.items()}
    height, width = next(iter(cells.values()))[0].shape[:2]
    gap, head, margin = 10, 18, 10 + 7 * max(map(len, cells))
    width_each = max(width, 7 * max(map(len, columns)))
    size = (margin + len(columns) * (width_each + gap), head + len(cells) * (height + gap))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(columns):
        draw.text((margin + column * (width_each + gap), 3), title, fill="black")
    for row, (label, pictures) in enumerate(cells.items()):
        top = head + row * (height + gap)
        draw.text((4, top + height / 2 - 6), label, fill="black")
        for column, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(picture), (margin + column * (width_each + gap), top))
    save_png(path, np.asarray(canvas), texts)


matplotlib.use("Agg")


# Okabe & Ito's colours, told apart with any colour vision; grey and black are kept for other uses.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
PANELS_ACROSS = 4
FEW_POINTS = 12  # of a curve, which get dots: one alone makes no line
_DASHES = ("-", "--", ":", "-.")
_PLACE_STYLES = {
    "real": ("-", "0.5"),
    "painted": ("-", "tab:purple"),
    "null": ("-", "tab:red"),
    "training donors, real": ("--", "0.5"),
    "training donors, painted": ("--", "tab:purple"),
}


def real_beside_painted(
    path: Path, real: list[NDArray[np.uint8]], painted: NDArray[np.uint8], names: list[str], texts: dict[str, str]
) -> None:
    """A PNG with one row a donor: real tiles at the left, tiles painted from the profile at the right.

    `real`: one (n, H, W, 3) a donor; `painted` (donors, n, H, W, 3), as many columns a side as the shortest row has.
    `texts`: what the PNG's metadata say of the painted half.
    """
    columns = min(painted.shape[1], *(len(tiles) for tiles in real))
    halves = [grid(np.stack([tiles[:columns] for tiles in side])) for side in (real, list(painted))]
    gap, head, margin = 12, 18, 8 + 7 * max(len(name) for name in names)
    height, width = halves[0].shape[:2]
    canvas = Image.new("RGB", (margin + 2 * width + gap, head + height), "white")
    draw = ImageDraw.Draw(canvas)
    for k, (half, title) in enumerate(zip(halves, ("real tiles", "painted from the profile"), strict=True)):
        left = margin + k * (width + gap)
        canvas.paste(Image.fromarray(half), (left, head))
        draw.text((left, 3), title, fill="black")
    for row, name in enumerate(names):
        draw.text((4, head + (row + 0.5) * height / len(names) - 6), name, fill="black")
    about = {"Description": "Left: real tiles. Right: synthetic tiles painted by rnagan."}
    save_png(path, np.asarray(canvas), texts | about)


def measured_on_expected(
    path: Path,
    result: dict[str, Any],
    truth: pd.DataFrame,
    painted: pd.DataFrame,
    real: pd.DataFrame,
    across: str = "expected",
) -> None:
    """One panel a tissue and measure: each held-out donor's painted (and, where there are, real) tiles on the truth,
    or on whatever `across` calls it."""
    tissues, measures = list(result), list(MEASURES)
    size = (3.1 * len(measures), 2.9 * len(tissues))
    figure, axes = plt.subplots(len(tissues), len(measures), figsize=size, squeeze=False)
    for row, tissue in enumerate(tissues):
        samples = truth.loc[painted.index].query("tissue == @tissue").index
        for column, name in enumerate(measures):
            axis = axes[row, column]
            if name not in result[tissue]:
                axis.axis("off")
                continue
            found, pictured = result[tissue][name], samples.intersection(real.index)
            for rows, tiles, colour, label in (
                (pictured, real, "0.65", "real tiles"),
                (samples, painted, "tab:purple", "painted tiles"),
            ):
                if len(rows):
                    axis.scatter(truth.loc[rows, name], tiles.loc[rows, name], s=9, c=colour, label=label)
            axis.set_title(f"{tissue}: r = {found['r']:.2f}, p = {found['p']:.2g}", fontsize=9)
            axis.set_xlabel(f"{across} {MEASURES[name]}", fontsize=7)
            axis.tick_params(labelsize=7)
    axes[0, 0].legend(fontsize=7)
    save_figure(figure, path)


def tile_strip(path: Path, tiles: NDArray[np.uint8], names: list[str], heads: list[str], texts: dict[str, str]) -> None:
    """A PNG of synthetic tiles (rows, columns, H, W, 3): `heads` above the columns, `names` beside equal shares of the
    rows. `texts`: its metadata."""
    body = grid(tiles)
    head, margin, height = 18, 8 + 7 * max(len(name) for name in names), body.shape[0]
    canvas = Image.new("RGB", (margin + body.shape[1], head + height), "white")
    canvas.paste(Image.fromarray(body), (margin, head))
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(heads):
        draw.text((margin + column * body.shape[1] / len(heads) + 2, 3), title, fill="black")
    for row, name in enumerate(names):
        draw.text((4, head + (row + 0.5) * height / len(names) - 6), name, fill="black")
    save_png(path, np.asarray(canvas), texts)


def response_curves(path: Path, table: pd.DataFrame, x_label: str) -> None:
    """One panel a measure: its mean over donors against the step, with the interval, a line for each tissue.

    `table`: columns tissue, measure, step, mean, low, high.
    """
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(3.2 * len(MEASURES), 2.8))
    for axis, (name, label) in zip(axes, MEASURES.items(), strict=True):
        for tissue, own in table[table["measure"] == name].groupby("tissue"):
            (line,) = axis.plot(own["step"], own["mean"], lw=1.5, label=str(tissue))
            axis.fill_between(own["step"], own["low"], own["high"], color=line.get_color(), alpha=0.25, lw=0)
        axis.set_title(label, fontsize=8)
        axis.set_xlabel(x_label, fontsize=7)
        axis.tick_params(labelsize=7)
        axis.locator_params(axis="x", nbins=5)
    axes[0].legend(fontsize=7)
    save_figure(figure, path)


def places_of_donors(path: Path, places: pd.DataFrame) -> None:
    """One panel a tissue: the share of donors (up) whose right one is at least as near as a place among the others
    (right, 0 nearest … 1 farthest), a line for each kind of tiles; chance is the diagonal.

    `places`: columns tissue, tiles, donor, place.
    """
    tissues = sorted(set(places["tissue"]))
    figure, axes = plt.subplots(1, len(tissues), figsize=(3.4 * len(tissues), 3.2), squeeze=False)
    for axis, tissue in zip(axes[0], tissues, strict=True):
        for kind, own in places[places["tissue"] == tissue].groupby("tiles", sort=False)["place"]:
            style, colour = _PLACE_STYLES.get(str(kind), ("-", "tab:orange"))
            share = np.arange(len(own) + 1) / len(own)
            axis.step(np.append(np.sort(own), 1), share, style, where="pre", c=colour, lw=1.4, label=f"{kind} tiles")
        axis.plot([0, 1], [0, 1], ":", c="0.6", lw=1)
        axis.set_title(str(tissue), fontsize=9)
        axis.set_xlabel("place of the right donor among those of the tissue", fontsize=7)
        axis.set_ylabel("share of donors", fontsize=7)
        axis.tick_params(labelsize=7)
    axes[0, 0].legend(fontsize=6, loc="lower right")
    save_figure(figure, path)


def curves(
    path: Path,
    runs: Mapping[str, list[dict[str, Any]]],
    panels: Mapping[str, str],
    x_label: str,
    x: str = "images",
) -> None:
    """One panel for each of `panels` (metric → title) that a run has, and in it a line for each run (its rows of
    metrics, by its name) against `x`, images or seconds. A run has the same colour in all panels: `run_style`."""
    shown = {
        name: title for name, title in panels.items() if any(name in row for rows in runs.values() for row in rows)
    }
    across = min(len(shown), PANELS_ACROSS)
    down = -(-len(shown) // across)
    figure, axes = plt.subplots(down, across, figsize=(3.6 * across, 2.6 * down), squeeze=False)
    for axis, (name, title) in zip(axes.flat, shown.items(), strict=False):
        for k, (run, rows) in enumerate(runs.items()):
            points = [(row[x], row[name]) for row in rows if name in row]
            few = "." if len(points) < FEW_POINTS else ""
            axis.plot(*zip(*points, strict=True), lw=1, marker=few, label=run, **run_style(k)) if points else None
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(x_label, fontsize=7)
        axis.tick_params(labelsize=7)
        if len(runs) > 1:
            axis.legend(fontsize=6)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    save_figure(figure, path)


def run_style(k: int) -> dict[str, str]:
    """Colour and dashes of the k-th run among several, alike in every figure."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": _DASHES[k // len(COLOURS) % len(_DASHES)]}


def nearest_figure(
    path: Path,
    painted: NDArray[np.uint8],
    neighbours: list[list[NDArray[np.uint8]]],
    distances: NDArray[np.float64],
    threshold: float,
    texts: dict[str, str],
) -> None:
    """A PNG with one row a painted tile (n, H, W, 3): it, then its nearest real training tiles with their distances.

    A distance below `threshold`, where one in a hundred held-out real tiles lies, is red. `texts`: the PNG's metadata.
    """
    side, gap, head, line = painted.shape[1], 4, 18, 13
    columns = 1 + len(neighbours[0])
    width = max(side, 64) + gap
    canvas = Image.new("RGB", (12 + columns * width, head + len(painted) * (side + line + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((2, 3), "painted", fill="black")
    draw.text((width + 12, 3), "nearest real training tiles (distance)", fill="black")
    for row, tiles in enumerate(neighbours):
        top = head + row * (side + line + gap)
        canvas.paste(Image.fromarray(painted[row]), (2, top))
        for column, tile in enumerate(tiles):
            left = 12 + (column + 1) * width
            canvas.paste(Image.fromarray(np.ascontiguousarray(tile)), (left, top))
            colour = "red" if distances[row, column] < threshold else "black"
            draw.text((left, top + side), f"{distances[row, column]:.2f}", fill=colour)
    about = {"Description": "First column: synthetic tiles painted by rnagan. Others: real tiles."}
    save_png(path, np.asarray(canvas), texts | about)


Curve = tuple[NDArray[np.float64], NDArray[np.float64]]  # frequencies in cycles per px, and the mean power of each


def spectra_figure(
    path: Path, spectra: dict[str, NDArray[np.float64]], radial: dict[str, Curve], periods: Sequence[int]
) -> None:
    """Mean power by frequency of each set of tiles (`radial`; a line at each of `periods`, px), then each one's
    spectrum in both directions, logarithmic."""
    columns = min(4, 1 + len(spectra))
    height = -(-(1 + len(spectra)) // columns)
    figure, axes = plt.subplots(height, columns, figsize=(3.6 * columns, 3.2 * height), squeeze=False)
    first, *others = axes.flat
    for name, curve in radial.items():
        first.semilogy(*curve, lw=1, label=name, color="black" if name == "real tiles" else None)
    for period in periods:
        first.axvline(1 / period, color="0.8", lw=0.8, zorder=0)
    first.set_xlabel(
        f"cycles per px (lines: checkerboards of {', '.join(map(str, sorted(periods, reverse=True)))} px)", fontsize=7
    )
    first.set_title("power, squared grey levels", fontsize=9)
    first.tick_params(labelsize=7)
    first.legend(fontsize=7)
    logs = {name: np.log10(np.fft.fftshift(np.maximum(spectrum, 1e-3))) for name, spectrum in spectra.items()}
    low, high = np.percentile(np.stack(list(logs.values())), [1, 99.9])
    for axis, (name, log) in zip(others, logs.items(), strict=False):
        axis.imshow(log, cmap="magma", extent=(-0.5, 0.5, 0.5, -0.5), vmin=low, vmax=high)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in others[len(spectra) :]:
        axis.axis("off")
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG by rename, and close it."""
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


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
