"""A simulated slide on disk: a pyramidal SVS that OpenSlide opens as Aperio's."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from rnagan.io.files import atomic_path
from rnagan.io.images import shrink

JPEG_QUALITY = 90


def write_svs(path: Path, pixels: NDArray[np.uint8], mpp: float) -> None:
    """Write pixels (H, W, 3) of `mpp` µm and a half-size level, with a thumbnail between as Aperio's scanners do."""
    height, width = pixels.shape[:2]
    half = shrink(pixels, 2)
    thumbnail = shrink(pixels, 4)
    name = "Aperio Image Library v11.2.1 \r\n"
    facts = f"|AppMag = {10 / mpp:g}|MPP = {mpp:g}"
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary) as tiff:

        def page(image: NDArray[np.uint8], description: str, tiled: bool) -> None:
            shape = {"tile": (256, 256)} if tiled else {"rowsperstrip": 16}
            tiff.write(
                image,
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                description=description,
                metadata=None,
                software=False,
                **shape,
            )

        page(
            pixels,
            f"{name}{width}x{height} [0,0 {width}x{height}] (256x256) JPEG/RGB Q={JPEG_QUALITY}{facts}",
            True,
        )
        page(thumbnail, f"{name}{width}x{height} -> {thumbnail.shape[1]}x{thumbnail.shape[0]} - ", False)
        page(
            half,
            f"{name}{width}x{height} [0,0 {width}x{height}] (256x256) -> {half.shape[1]}x{half.shape[0]} "
            f"JPEG/RGB Q={JPEG_QUALITY}{facts}",
            True,
        )
