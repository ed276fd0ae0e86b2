"""Arrays of tiles to pictures, and PNGs that say they are synthetic."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from rnagan.io.files import atomic_path

Tiles = NDArray[np.uint8]


def to_uint8(x: NDArray) -> Tiles:
    """Images in [-1, 1], shape (n, 3, H, W), to uint8 (n, H, W, 3)."""
    return ((x.transpose(0, 2, 3, 1) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def shrink(image: Tiles, factor: int) -> Tiles:
    """An image (H, W, 3) averaged over squares of `factor` px; what doesn't fill a square at the far edges is cut."""
    height, width = (side // factor for side in image.shape[:2])
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def grid(rows: Tiles, gap: int = 2) -> Tiles:
    """Tiles (rows, columns, H, W, 3) as one picture on white, `gap` px apart."""
    n_rows, n_columns, height, width, _ = rows.shape
    canvas = np.full((n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, 3), 255, np.uint8)
    for i in range(n_rows):
        for j in range(n_columns):
            canvas[i * (height + gap) :, j * (width + gap) :][:height, :width] = rows[i, j]
    return canvas


def save_png(path: Path, image: Tiles, texts: dict[str, str] | None = None) -> None:
    """Write an RGB PNG by rename, with `texts` in its metadata."""
    info = PngInfo()
    for key, value in (texts or {}).items():
        info.add_text(key, value)
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", pnginfo=info)


def synthetic_texts(model_digest: str, profile: str, seed: int, mpp: float | None) -> dict[str, str]:
    """Metadata of a generated tile: that it is synthetic, and what made it."""
    return {
        "Synthetic": "true",
        "Description": "Synthetic tissue painted by rnagan from a gene expression profile; "
        "not a photograph of a patient.",
        "Software": "rnagan",
        "rnagan:model": model_digest,
        "rnagan:profile": profile,
        "rnagan:seed": str(seed),
        "rnagan:mpp": "unknown" if mpp is None else f"{mpp:g}",
    }
