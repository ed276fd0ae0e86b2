"""A simulated slide: tissue on glass, as a pyramidal SVS that OpenSlide opens as Aperio's."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from rnagan.files import atomic_path
from rnagan.simulation.painting import GLASS_OD, to_rgb

NATIVE_MPP = 0.5  # 20×
JPEG_QUALITY = 90


def on_glass(random: np.random.Generator, tissue: NDArray[np.uint8], margin_px: int) -> NDArray[np.uint8]:
    """The tissue (H, W, 3) with `margin_px` of empty glass around it."""
    height, width = (side + 2 * margin_px for side in tissue.shape[:2])
    slide = to_rgb(random, np.full((height, width, 3), GLASS_OD))
    slide[margin_px : height - margin_px, margin_px : width - margin_px] = tissue
    return slide


def write_svs(path: Path, pixels: NDArray[np.uint8], mpp: float = NATIVE_MPP) -> None:
    """Write pixels (H, W, 3) and a half-size level, with a thumbnail between as Aperio's scanners do."""
    height, width = pixels.shape[:2]
    half = _shrink(pixels, 2)
    thumbnail = _shrink(pixels, 4)
    name = "Aperio Image Library v11.2.1 \r\n"
    told = f"|AppMag = {10 / mpp:g}|MPP = {mpp:g}"
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary) as tiff:
        def page(image: NDArray[np.uint8], description: str, tiled: bool) -> None:
            shape = {"tile": (256, 256)} if tiled else {"rowsperstrip": 16}
            tiff.write(image, photometric="rgb", compression="jpeg", compressionargs={"level": JPEG_QUALITY},
                       description=description, metadata=None, software=False, **shape)

        page(pixels, f"{name}{width}x{height} [0,0 {width}x{height}] (256x256) JPEG/RGB Q={JPEG_QUALITY}{told}", True)
        page(thumbnail, f"{name}{width}x{height} -> {thumbnail.shape[1]}x{thumbnail.shape[0]} - ", False)
        page(half, f"{name}{width}x{height} [0,0 {width}x{height}] (256x256) -> {half.shape[1]}x{half.shape[0]} "
                   f"JPEG/RGB Q={JPEG_QUALITY}{told}", True)


def _shrink(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    height, width = (side // factor for side in pixels.shape[:2])
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)
