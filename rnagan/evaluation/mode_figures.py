"""Sample grids of several runs beside one another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rnagan.pictures import grid, save_png

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
