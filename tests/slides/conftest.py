"""Small synthetic slides that OpenSlide opens as Aperio's."""

from pathlib import Path

import numpy as np
import pytest
import tifffile


def write_slide(path: Path, image: np.ndarray, mpp: float | None = 0.5) -> Path:
    """A two-level pyramid of an RGB image, JPEG without chroma loss in smooth parts; `mpp` None says no resolution."""
    height, width = image.shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": 95},
        "metadata": None,
        "software": False,
        "datetime": False,
    }
    half = (
        image[: height // 2 * 2, : width // 2 * 2]
        .reshape(height // 2, 2, width // 2, 2, 3)
        .mean((1, 3))
        .astype(np.uint8)
    )
    resolution = "" if mpp is None else f"|AppMag = 20|MPP = {mpp}"
    head = f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] (256x256)"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, tile=(256, 256), description=f"{head} JPEG/RGB Q=95{resolution}", **options)
        tiff.write(
            half[::4, ::4].copy(),
            rowsperstrip=16,
            description=f"Aperio Image Library v11.2.1 \r\n{resolution}",
            **options,
        )
        tiff.write(half, tile=(256, 256), description=f"{head} -> {width // 2}x{height // 2} JPEG/RGB Q=95", **options)
    return path


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Tissue-coloured, different everywhere, without symmetry: red grows with x, green with y, blotches in all."""
    y, x = np.mgrid[:height, :width]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    red = 150 + 60 * x / width + 20 * np.sin(x / 23 + phase[0])
    green = 60 + 60 * y / height + 20 * np.sin(y / 31 + phase[1])
    blue = 140 + 30 * np.sin((x + 2 * y) / 41 + phase[2])
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


@pytest.fixture
def make_slide(tmp_path):
    """make_slide(name, image=None, mpp=0.5) writes into tmp_path/slides; by default tissue left, glass right."""

    def make(name: str, image: np.ndarray | None = None, mpp: float | None = 0.5) -> Path:
        if image is None:
            image = smooth_image(600, 900, seed=sum(map(ord, name)))
            image[:, 500:] = 245
        return write_slide(tmp_path / "slides" / name, image, mpp)

    make.smooth_image = smooth_image
    return make
