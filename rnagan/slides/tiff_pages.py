"""What the pages of a TIFF say that OpenSlide passes over: orientation, further pages, OME's resolution, bits."""

import dataclasses
import math
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from rnagan.data.build_jobs import SourceError

_MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "in": 25.4e3}
_REDUCED = 1  # bit of TIFF's NewSubfileType
_TURNED = "vips autorot IN OUT.tif[tile,pyramid,compression=jpeg]"


class UnusablePagesError(SourceError):
    """A TIFF whose pixels OpenSlide would show otherwise than they are meant."""

    reason = "unusable pages"


@dataclasses.dataclass(frozen=True)
class TiffPages:
    """`ome_mpp`: width and height of a level-0 pixel in µm by the OME-XML, where it says so. `bits`: of a channel."""

    ome_mpp: tuple[float, float] | None = None
    bits: int = 8


def read_pages(path: Path, width_px: int, height_px: int) -> TiffPages:
    """What the TIFF says of the level 0 that OpenSlide sees, (width_px, height_px).

    `UnusablePagesError` where the image is to be turned, where level 0 isn't the first page or a larger page isn't
    part of the pyramid, and where each channel has a page of its own. What tifffile can't follow has no say.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            first, *others = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
            orientation = first.tags.valueof(274, 1)
            ome = tiff.ome_metadata
    except (tifffile.TiffFileError, OSError, ValueError, TypeError, KeyError, IndexError):
        return TiffPages()
    if orientation not in (0, 1):
        raise UnusablePagesError(
            f"{path} is to be turned or mirrored (TIFF orientation {orientation}), which OpenSlide doesn't do; "
            f"write it anew upright, such as with {_TURNED}."
        )
    whole = [page for page in others if page.is_tiled and not page.subfiletype & _REDUCED]
    largest = max([first, *whole], key=lambda page: page.imagewidth * page.imagelength)
    if largest is not first or (first.imagewidth, first.imagelength) != (width_px, height_px):
        raise UnusablePagesError(
            f"{path} has {first.imagewidth} × {first.imagelength} px on its first page, and a page of more px; "
            "it isn't clear which is the slide. Write the one that is as a pyramid of its own."
        )
    if first.samplesperpixel == 1 and any(page.shape == first.shape for page in whole):
        raise UnusablePagesError(
            f"{path} has each channel on a page of its own, of which OpenSlide reads the first alone; "
            "write it anew as RGB (bioformats: raw2ometiff --rgb)."
        )
    return TiffPages(_ome_mpp(ome, width_px, height_px) if ome else None, int(first.bitspersample))


def _ome_mpp(xml: str, width_px: int, height_px: int) -> tuple[float, float] | None:
    """PhysicalSizeX and PhysicalSizeY in µm of the image of that size; None where it has none or in unknown units."""
    try:
        pixels = ElementTree.fromstring(xml).findall(".//{*}Pixels")
    except ElementTree.ParseError:
        return None
    for image in pixels:
        if (image.get("SizeX"), image.get("SizeY")) == (str(width_px), str(height_px)):
            x, y = (_in_um(image.get(f"PhysicalSize{a}"), image.get(f"PhysicalSize{a}Unit", "µm")) for a in "XY")
            return (x, y) if x and y else None
    return None


def _in_um(size: str | None, unit: str) -> float:
    """0 where that says nothing."""
    try:
        micrometres = float(size or 0) * _MICROMETRES.get(unit, 0.0)
    except ValueError:
        return 0.0
    return micrometres if math.isfinite(micrometres) else 0.0
