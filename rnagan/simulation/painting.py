"""Painted tissue: programmes in, an RGB slide region out.

Light is absorbed as in a real section: each pixel has an optical density (OD) that is a sum of matrix and nuclei, scaled
by the stain of the site, and intensity = 255 · exp(−OD).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]

MATRIX_OD = 0.72  # summed over R, G, B at stain 1
MATRIX = np.array([0.22, 0.50, 0.28])  # shares of it at matrix programme 0
MATRIX_SHIFT = np.array([0.07, 0.0, -0.07])  # per unit of the programme: towards blue-purple, total unchanged
NUCLEUS_OD = np.array([0.95, 1.05, 0.50])
GLASS_OD = 0.02
BORDER_PX = 0.5  # softness of a nucleus's border, px


def paint_tissue(
    random: np.random.Generator, height: int, width: int, mpp: float, *, tissue: str, nuclei_per_mm2: float,
    nuclear_radius_um: float, matrix: float, air_fraction: float, stain: float,
) -> NDArray[np.uint8]:
    """A region of tissue, uint8 (height, width, 3) at `mpp` µm per px."""
    lung = tissue == "lung"
    air = _air(random, height, width, mpp, air_fraction) if lung else np.zeros((height, width))
    grain = _noise(random, height, width, (0.7 / mpp, 1.5 / mpp) if lung else (0.8 / mpp, 0.8 / mpp))
    drift = _noise(random, height, width, (12 / mpp, 12 / mpp))
    amount = MATRIX_OD * (1 + 0.13 * grain + 0.06 * drift)
    od = amount[..., None] * (MATRIX + matrix * MATRIX_SHIFT)
    count = round(nuclei_per_mm2 * (height * width - air.sum()) * mpp**2 / 1e6)
    cover = _nuclei(random, count, air > 0.3, nuclear_radius_um / mpp, lung)
    od = od * (1 - cover[..., None]) + cover[..., None] * NUCLEUS_OD * (1 + 0.12 * grain[..., None])
    od = stain * od * (1 - air[..., None]) + GLASS_OD
    return to_rgb(random, od)


def to_rgb(random: np.random.Generator, od: Floats) -> NDArray[np.uint8]:
    """Optical density (H, W, 3) to 8-bit intensities, with the camera's faint noise."""
    return (255 * np.exp(-od) + random.normal(0, 1.5, od.shape[:2])[..., None]).clip(0, 255).astype(np.uint8)


def _noise(random: np.random.Generator, height: int, width: int, sigma: tuple[float, float]) -> Floats:
    """Smooth noise of SD 1."""
    field = ndimage.gaussian_filter(random.standard_normal((height, width)), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def _air(random: np.random.Generator, height: int, width: int, mpp: float, fraction: float) -> Floats:
    """Air spaces: soft-edged, rounded holes that take `fraction` of the area; 1 in air, 0 in tissue."""
    field = _noise(random, height, width, (6 / mpp, 6 / mpp))
    edge = np.quantile(field, 1 - fraction)
    return ndimage.gaussian_filter((field > edge).astype(np.float64), 0.5 / mpp)


def _nuclei(random: np.random.Generator, count: int, forbidden: NDArray[np.bool_], radius_px: float, elongated: bool) -> Floats:
    """Share of each pixel covered by nuclei: `count` ellipses, none centred in `forbidden`, seldom touching."""
    height, width = forbidden.shape
    cover = np.zeros((height, width))
    free = ~ndimage.binary_dilation(forbidden, iterations=max(1, int(radius_px * 0.5)))
    reach = int(np.ceil(radius_px * 2)) + 1
    ys, xs = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    for _ in range(count):
        y, x = _free_place(random, free)
        free[max(0, int(y - 1.7 * radius_px)) : int(y + 1.7 * radius_px) + 1,
             max(0, int(x - 1.7 * radius_px)) : int(x + 1.7 * radius_px) + 1] = False
        stretch = np.exp(random.normal(0.25 if elongated else 0.0, 0.12))
        angle = random.uniform(0, np.pi)
        u = (xs * np.cos(angle) + ys * np.sin(angle)) / stretch
        v = (-xs * np.sin(angle) + ys * np.cos(angle)) * stretch
        disc = 1 / (1 + np.exp((np.hypot(u, v) - radius_px * random.uniform(0.9, 1.1)) / BORDER_PX))
        top, left = int(y) - reach, int(x) - reach
        rows, columns = slice(max(0, top), min(height, top + len(ys))), slice(max(0, left), min(width, left + len(ys)))
        part = disc[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        cover[rows, columns] = np.maximum(cover[rows, columns], part)
    return cover


def _free_place(random: np.random.Generator, free: NDArray[np.bool_]) -> tuple[float, float]:
    """A random free pixel; anywhere once the tissue is full."""
    height, width = free.shape
    for _ in range(60):
        y, x = random.uniform(0, height), random.uniform(0, width)
        if free[int(y), int(x)]:
            return y, x
    return random.uniform(0, height), random.uniform(0, width)
