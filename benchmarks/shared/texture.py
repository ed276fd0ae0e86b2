"""Tissue pixels to fill benchmark slides with: real tiles where they are at hand, else simulated tissue."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

GLASS = 242  # grey of empty glass
GLASS_NOISE = 1.5  # its standard deviation
OUTLINE_PX = 64  # the outline of tissue is drawn on a grid of this pitch
OUTLINE_SMOOTHNESS = 18  # in cells of that grid
PATCHES = 400  # of each tissue at most


def generate(width_px: int, height_px: int, glass_share: float, data: Path, random: np.random.Generator) -> NDArray:
    """Tissue with `glass_share` of glass around it: (height_px, width_px, 3) uint8 RGB."""
    image = _mosaic(width_px, height_px, patches(data), random)
    on_tissue = tissue_outline(height_px // OUTLINE_PX + 1, width_px // OUTLINE_PX + 1, glass_share, random)
    for top in range(0, height_px, 256):  # in strips: whole float images would need gigabytes
        strip = image[top : top + 256]
        cells = (0, top / OUTLINE_PX, width_px / OUTLINE_PX, (top + len(strip)) / OUTLINE_PX)
        soft = Image.fromarray(on_tissue).resize((width_px, len(strip)), Image.Resampling.BILINEAR, box=cells)
        glass = np.asarray(soft) < 0
        noise = random.normal(GLASS, GLASS_NOISE, (int(glass.sum()), 3))
        strip[glass] = np.clip(noise, 0, 255).round().astype(np.uint8)
    return image


def patches(data: Path) -> list[NDArray[np.uint8]]:
    """Pictures (n, n, 3) of tissue: lung and colon tiles under `data`, else simulated tissue."""
    if not has_real(data):
        return [_simulated(seed) for seed in range(2)]
    paths = [path for tissue in ("lung", "colon") for path in sorted((data / "tiles" / tissue).glob("*"))[:PATCHES]]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def has_real(data: Path) -> bool:
    """Whether real tiles lie under `data`."""
    return (data / "tiles" / "tiles.csv").is_file()


def tissue_outline(rows: int, columns: int, glass_share: float, random: np.random.Generator) -> NDArray[np.float32]:
    """A smooth field (rows, columns), positive on tissue, of which `glass_share` is negative, first at the edges."""
    field = gaussian_filter(random.standard_normal((rows, columns)), OUTLINE_SMOOTHNESS, mode="constant")
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    field = field / field.std() - 4 * np.maximum(abs(y), abs(x)) ** 8
    return (field - np.quantile(field, glass_share)).astype(np.float32)


def _mosaic(width_px: int, height_px: int, pictures: list[NDArray], random: np.random.Generator) -> NDArray[np.uint8]:
    """Pictures side by side, each turned and mirrored at random."""
    turned: list[Callable[[NDArray], NDArray]] = [lambda p: p, np.rot90, np.flipud, np.fliplr]
    image = np.empty((height_px, width_px, 3), np.uint8)
    side = len(pictures[0])
    for top in range(0, height_px, side):
        for left in range(0, width_px, side):
            target = image[top : top + side, left : left + side]
            picture = turned[random.integers(4)](pictures[random.integers(len(pictures))])
            target[:] = picture[: target.shape[0], : target.shape[1]]
    return image


def _simulated(seed: int) -> NDArray[np.uint8]:
    from rnagan.simulation.rendering import Layout, Morphology, render_slide
    from rnagan.simulation.tissues import TISSUES

    layout = Layout(tile=256, across=4, down=4)
    morphology = Morphology(3200, 3.2, 0.35, 0.4, float("nan"))
    return render_slide(TISSUES["cortex"], morphology, layout, np.random.default_rng(seed))[layout.inside]
