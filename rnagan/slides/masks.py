"""Tissue masks that were made elsewhere (GeoJSON, PNG), instead of Otsu's threshold."""

import contextlib
import dataclasses
import struct
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rnagan.cohort.slide_ids import SLIDE_SUFFIXES, printable, unchecked_slide_id
from rnagan.data.build_jobs import SourceError
from rnagan.data.image_codec import has_16_bits, orientation
from rnagan.io.tables import first_few
from rnagan.slides.geojson import Outlines, read_outlines
from rnagan.slides.slide import Slide

_OUTLINES = ".geojson"
_SUFFIXES = (_OUTLINES, ".png")
_MOST_PX = 2**26  # of a PNG; one at 8 µm per px of the largest slides has half as many
_MOST_COLOURS = 256  # of a PNG in colours; a photograph has more
_OUTSIDE = 0.01  # share of a side by which outlines may reach beyond the slide
_LITTLE_STAINED = 0.25  # share of a mask
_FITS, _MISFITS = 0.8, 0.5  # overlaps (intersection over union) of outlines read otherwise, and as they are


class MaskError(SourceError):
    """A slide whose mask is missing, broken or made for another slide."""

    reason = "mask"


@dataclasses.dataclass(frozen=True)
class MaskFolder:
    """Where masks are, and how they are read.

    `classes`: of QuPath, which are tissue. `origin`: where outlines count from on slides whose scanner states bounds,
    the corner of level 0 or of these bounds (`level-0`, `bounds`); None: such slides are refused. Unless `required`,
    slides without a mask get Otsu's.
    """

    path: Path
    classes: tuple[str, ...] = ()
    origin: str | None = None
    required: bool = True


@dataclasses.dataclass(frozen=True)
class MaskFile:
    """The mask of a slide; `classes` and `origin` as in `MaskFolder`, where it is GeoJSON."""

    path: Path
    classes: tuple[str, ...] = ()
    origin: str | None = None

    @classmethod
    def of(cls, path: Path, folder: MaskFolder) -> "MaskFile":
        return cls(path, folder.classes, folder.origin) if path.suffix.lower() == _OUTLINES else cls(path)


class GivenMask(NamedTuple):
    """`tissue`: (rows, columns) bool. `warnings`: sentences on what is doubtful about it."""

    tissue: NDArray[np.bool_]
    warnings: tuple[str, ...]


def find_masks(folder: Path | str, notes: list[str]) -> dict[str, tuple[Path, ...]]:
    """Slide id → its masks, of all .geojson and .png files in a folder and below it: `ID.png`, or `ID.svs.png`.

    `notes` gets a sentence about the files that are no masks. `FileNotFoundError` where there are only such.
    """
    found: dict[str, tuple[Path, ...]] = {}
    others: list[str] = []
    for path in sorted(Path(folder).rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith("."):
            name = printable(path.stem)
            slide = unchecked_slide_id(name) if Path(name).suffix.lower() in SLIDE_SUFFIXES else name.replace(".", "_")
            found[slide] = (*found.get(slide, ()), path)
        else:
            others.append(printable(str(path)))
    if not found:
        raise FileNotFoundError(f"{folder} holds no mask, which is called like its slide: ID.geojson or ID.png.")
    if others:
        notes.append(f"{len(others):,} files of {folder} are no masks: {first_few(others)}.")
    return found


def read_mask(mask: MaskFile, slide: Slide, pixel_px: float, stained: NDArray[np.bool_]) -> GivenMask:
    """A mask at the resolution of the slide's thumbnail, whose pixels are `pixel_px` level-0 pixels wide.

    `stained` (rows, columns) bool is what Otsu's threshold finds: where the mask hardly meets it a warning says so.
    `MaskError` where the file is broken, doesn't fit the slide, or marks nothing.
    """
    path, doubts = mask.path, list[str]()
    try:
        if path.suffix.lower() != _OUTLINES:
            tissue = _marked_at(_read_png(path, slide), slide, stained.shape, pixel_px)
        else:
            outlines = _on_level_0(read_outlines(path, mask.classes), slide, mask.origin)
            _refuse_outside(outlines, slide, pixel_px)
            tissue = outlines.pixels(stained.shape, pixel_px)
            if outlines.left_out:
                counted = ", ".join(f"{count:,} {kind}" for kind, count in sorted(outlines.left_out.items()))
                doubts.append(f"its mask {path} has objects that are no polygons and were left out ({counted})")
            doubts += _other_units(path, outlines, slide, pixel_px, tissue, stained)
    except OSError as error:
        raise MaskError(f"{path} can't be read ({error}).") from None
    except ValueError as error:
        raise MaskError(f"{path} {error}") from None
    if not tissue.any():
        raise MaskError(f"{path} marks no tissue at {pixel_px * slide.mpp:.3g} µm per px; leave such slides out.")
    share = (tissue & stained).sum() / tissue.sum()
    if stained.any() and share < _LITTLE_STAINED:
        doubts.append(
            f"only {share:.0%} of its mask {path} looks stained; look at the picture in qc/ whether the mask "
            "is that of this slide, in level-0 pixels, and not inverted"
        )
    return GivenMask(tissue, tuple(doubts))


def _on_level_0(outlines: Outlines, slide: Slide, origin: str | None) -> Outlines:
    """Outlines counted from the corner of level 0. QuPath counts from the bounds, TRIDENT and OpenSlide don't."""
    x, y = slide.scanned_from
    if (x, y) == (0, 0) or origin == "level-0":
        return outlines
    if origin is None:
        raise ValueError(
            f"is for a slide that was scanned from x {x:,}, y {y:,} on; say with --mask-origin whether its coordinates "
            "count from there (bounds: QuPath's default) or not (level-0)."
        )
    return outlines.moved(x, y)


def _refuse_outside(outlines: Outlines, slide: Slide, pixel_px: float) -> None:
    """What reaches beyond the slide by a little is cut; by more, it is the mask of another one."""
    sides = np.array([slide.width_px, slide.height_px])
    spare = np.maximum(_OUTSIDE * sides, pixel_px)
    left, top, right, bottom = outlines.box()
    if left < -spare[0] or top < -spare[1] or right > sides[0] + spare[0] or bottom > sides[1] + spare[1]:
        raise ValueError(
            f"has outlines from x {left:,.9g} to {right:,.9g} and y {top:,.9g} to {bottom:,.9g}, outside of the slide "
            f"of {slide.width_px:,} × {slide.height_px:,} px; coordinates must be level-0 pixels of this slide."
        )


def _other_units(
    path: Path,
    outlines: Outlines,
    slide: Slide,
    pixel_px: float,
    tissue: NDArray[np.bool_],
    stained: NDArray[np.bool_],
) -> list[str]:
    """A warning where outlines fit what is stained much better in µm, or as pixels of a coarser level."""
    fit = _overlap(tissue, stained)
    _, _, right, bottom = outlines.box()
    units = {"µm": 1 / slide.mpp} | {f"pixels of level {n}": f for n, f in enumerate(slide.level_downsamples) if n}
    for unit, factor in units.items():
        if fit < _MISFITS and factor > 1 and right * factor <= slide.width_px and bottom * factor <= slide.height_px:
            other = 0.0
            with contextlib.suppress(ValueError):  # too intricate at that size
                other = _overlap(outlines.pixels(stained.shape, pixel_px / factor), stained)
            if other > _FITS:
                return [
                    f"its mask {path} overlaps with what is stained by {fit:.0%}, and by {other:.0%} if its "
                    f"coordinates are {unit}; they are read as level-0 pixels"
                ]
    return []


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def _read_png(path: Path, slide: Slide) -> NDArray[np.bool_]:
    """(h, w) bool of a PNG: what isn't 0 and not transparent. `ValueError` ends a sentence about the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=["PNG"])
        with image:
            width, height = image.size
            if width * height > _MOST_PX:
                raise ValueError(
                    f"has {width:,} × {height:,} px; scale it to {_MOST_PX:,} or fewer, as 8 µm per px is."
                )
            if not _same_aspect((slide.width_px, slide.height_px), (width, height)):
                raise ValueError(
                    f"has {width:,} × {height:,} px, another aspect than the slide of "
                    f"{slide.width_px:,} × {slide.height_px:,}; a mask shows the whole slide."
                )
            return _marked(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"has more than the {_MOST_PX:,} px of a mask; scale it down.") from None
    except (OSError, EOFError, SyntaxError, struct.error) as error:
        raise ValueError(f"is no readable PNG ({error}).") from None


def _same_aspect(whole: tuple[int, int], reduced: tuple[int, int]) -> bool:
    """Whether one factor makes both sides of `reduced`, all rounded down, up or to the nearest pixel."""
    for up, down in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        sides = list(zip(whole, reduced, strict=True))
        low = max(side / (px + up) for side, px in sides)
        if low <= min(side / (px - down) if px > down else np.inf for side, px in sides):
            return True
    return False


def _marked(image: Image.Image) -> NDArray[np.bool_]:
    """Which pixels of an open PNG mark tissue. Where value, palette and transparency disagree it is refused."""
    deep, mode = has_16_bits(image), image.mode
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError("has several pictures; a mask is one.")
    if orientation(image) != 1:
        raise ValueError("is to be turned by its orientation tag; save it as it is meant to lie on the slide.")
    if deep and (not mode.startswith("I") or image.has_transparency_data):
        raise ValueError("has 16 bits a channel in colours or with transparency; save it as grey.")
    values = np.asarray(image)
    if mode in ("1", "L", "I", "I;16") and not image.has_transparency_data:
        tissue, several = values != 0, bool(values.min() != values.max())
    else:
        colours = np.asarray(image.convert("RGBA"))
        tissue, several = colours[..., :3].any(axis=2), bool(np.ptp(colours, axis=(0, 1)).any())
        if (colours[..., :1] != colours[..., 1:3]).any() and image.convert("RGB").getcolors(_MOST_COLOURS) is None:
            raise ValueError("is a picture of many colours and no mask, in which black is background.")
        if mode == "P" and (tissue != (values != 0)).any():
            raise ValueError("has a palette in which 0 isn't the one black colour; save it as grey with 8 bits.")
        if colours[..., 3].min() < 255 and (tissue != (colours[..., 3] > 0)).any():
            raise ValueError("is transparent elsewhere than where it is black; save it as grey with 8 bits.")
    if several and tissue.all():
        raise ValueError("has several values and none of them is 0, which means background.")
    return tissue


def _marked_at(marked: NDArray[np.bool_], slide: Slide, shape: tuple[int, ...], pixel_px: float) -> NDArray[np.bool_]:
    """The pixels of a mask of the whole slide under the centres of a thumbnail's, (rows, columns) bool."""
    places = []
    for count, side_px, side in zip(shape, (slide.height_px, slide.width_px), marked.shape, strict=True):
        centres = (np.arange(count) + 0.5) * (pixel_px * side / side_px)
        places.append(np.minimum(centres.astype(np.int64), side - 1))
    return marked[np.ix_(*places)]
