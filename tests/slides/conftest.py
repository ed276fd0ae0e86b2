"""Small synthetic slides that OpenSlide opens as Aperio's."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile


def write_slide(
    path: Path,
    image: np.ndarray,
    mpp: float | None = 0.5,
    *,
    power: int | None = None,
    side: int = 256,
    photometric: str = "rgb",
    compression: str = "jpeg",
    **options: object,
) -> Path:
    """A two-level pyramid of an RGB image, JPEG without chroma loss in smooth parts; `mpp` None says no resolution.

    `photometric` rgb stores RGB without a marker, as Aperio does, ycbcr as most do; `compression` 33005 is JPEG 2000.
    `options` go to both levels, such as resolution and resolutionunit.
    """
    height, width = image.shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "photometric": photometric,
        "compression": compression,
        "metadata": None,
        "software": False,
        "datetime": False,
        **options,
    }
    if compression == "jpeg":
        options["compressionargs"] = {"level": 95}
    half = (
        image[: height // 2 * 2, : width // 2 * 2]
        .reshape(height // 2, 2, width // 2, 2, 3)
        .mean((1, 3))
        .astype(np.uint8)
    )
    power = 20 if mpp else power
    properties = (f"|AppMag = {power}" if power else "") + (f"|MPP = {mpp}" if mpp else "")
    head = f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] ({side}x{side})"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, tile=(side, side), description=f"{head} JPEG/RGB Q=95{properties}", **options)
        if compression == "jpeg":
            tiff.write(
                half[::4, ::4].copy(),
                rowsperstrip=16,
                description=f"Aperio Image Library v11.2.1 \r\n{properties}",
                **options,
            )
        level = f"{head} -> {width // 2}x{height // 2} JPEG/RGB Q=95"
        tiff.write(half, tile=(side, side), description=level, **options)
    return path


def write_unmarked_rgb(path: Path, image: np.ndarray, keep_jfif: bool = False) -> Path:
    """A one-level slide as some Aperio scanners write it: JPEG tiles whose three components are R, G and B, and that
    don't say so (or with JFIF's marker even say YCbCr); only TIFF's photometric tag does.
    """
    height, width = image.shape[:2]

    def tiles():
        for y in range(0, height, 256):
            for x in range(0, width, 256):
                tile = np.zeros((256, 256, 3), np.uint8)
                part = image[y : y + 256, x : x + 256]
                tile[: part.shape[0], : part.shape[1]] = part
                planes = [np.ascontiguousarray(tile[..., channel]) for channel in range(3)]
                jpeg = simplejpeg.encode_jpeg_yuv_planes(*planes, quality=95)
                assert jpeg[:4] == b"\xff\xd8\xff\xe0"
                yield jpeg if keep_jfif else jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6], "big") :]

    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] (256x256) JPEG/RGB Q=95"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            tiles(),
            shape=(height, width, 3),
            dtype=np.uint8,
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            description=f"{head}|AppMag = 20|MPP = 0.5",
            metadata=None,
            software=False,
        )
    with tifffile.TiffFile(path, mode="r+b") as tiff:  # tifffile says YCbCr of any JPEG
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(2)
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

    def make(name: str, image: np.ndarray | None = None, mpp: float | None = 0.5, **options: object) -> Path:
        if image is None:
            image = smooth_image(600, 900, seed=sum(map(ord, name)))
            image[:, 500:] = 245
        return write_slide(tmp_path / "slides" / name, image, mpp, **options)

    make.smooth_image = smooth_image
    make.unmarked_rgb = lambda name, image, **options: write_unmarked_rgb(tmp_path / "slides" / name, image, **options)
    return make
