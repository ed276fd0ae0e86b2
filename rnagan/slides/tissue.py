"""Where tissue is: Otsu's threshold on a thumbnail (paper: STAR Methods, "Otsu threshold"), less what isn't H&E."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, binary_opening, label
from skimage.filters import threshold_otsu

from rnagan.config.tiling import TilingConfig

_STROKE_BLOCKS = 3  # ink is looked for in blocks, this many across the narrowest stroke
_NEIGHBOURS = np.ones((3, 3), bool)
_FAINT_HUE = 0.75  # of the ratios that mark ink: enough beside what is surely ink
_FAINT_BLACK = 1.2  # of the black level, in the same way
_GROWTH_STEPS = 5  # from what is surely ink on, in widths of a stroke
_STRIP_ROWS = 256  # rows of a thumbnail that are worked on at a time, which bounds memory
_GLASS_SAMPLE_PX = 1_000_000  # pixels, evenly spread, from which the colour of glass is taken
_CHROMA_SAMPLE_STEP = 2  # every 2nd row and column counts in Otsu's histogram of a large thumbnail


class TissueMasks(NamedTuple):
    """(rows, columns) bool each: `tissue`, and `ink`, which is pen, glue and black areas. They never overlap."""

    tissue: NDArray[np.bool_]
    ink: NDArray[np.bool_]


def find_tissue(thumbnail: NDArray[np.uint8], pixel_um: float, config: TilingConfig) -> TissueMasks:
    """Tissue and ink in an RGB thumbnail, (rows, columns, 3) uint8, whose pixels are `pixel_um` wide.

    Otsu's method thresholds chroma, the largest minus the smallest colour channel: H&E is coloured; glass, alveolar
    air, grey scanner padding, black borders and the edges of cover slips are not. Luminance would put pale tissue with
    the glass, and HSV saturation, which divides by brightness, would put noise in black borders with the tissue. The
    colour of the glass is balanced to grey first.

    Otsu always splits in two, so it would call half of an empty slide tissue, and half of a slide full of tissue
    background: its threshold is kept from `otsu_low` (glass stays below) to `otsu_high` (pale eosin lies above).

    Ink is recognised by its hue in optical density; see `find_ink`. With `config.ink` false nothing is taken for ink.
    """
    glass = glass_colour(thumbnail, config.glass_level)
    balance = _balance_table(glass)
    chroma = np.empty(thumbnail.shape[:2], np.uint8)
    for top in range(0, len(thumbnail), _STRIP_ROWS):
        red, green, blue = (balance[c][thumbnail[top : top + _STRIP_ROWS, :, c]] for c in range(3))
        high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
        np.subtract(high, low, out=chroma[top : top + _STRIP_ROWS])
    tissue = chroma > _otsu(chroma, config)
    if not config.ink:
        return TissueMasks(tissue, np.zeros_like(tissue))
    ink, border = find_ink(thumbnail, glass, pixel_um, config)
    tissue[ink | border] = False
    return TissueMasks(tissue, ink)


def _otsu(chroma: NDArray[np.uint8], config: TilingConfig) -> float:
    levels = np.bincount(chroma[::_CHROMA_SAMPLE_STEP, ::_CHROMA_SAMPLE_STEP].ravel(), minlength=256)
    if np.count_nonzero(levels) < 2:
        return config.otsu_low
    return float(np.clip(threshold_otsu(hist=levels), config.otsu_low, config.otsu_high))


def glass_colour(thumbnail: NDArray[np.uint8], glass_level: float) -> NDArray[np.float64]:
    """Colour of empty glass in RGB, (3,): the median of the brightest pixels.

    Grey where that is no glass: darker than `glass_level`, or magenta, as pale tissue is and lit glass isn't. Pure
    white is left out, for readers fill what was never scanned with it.
    """
    step = max(1, int(np.sqrt(thumbnail.shape[0] * thumbnail.shape[1] / _GLASS_SAMPLE_PX)))
    pixels = thumbnail[::step, ::step].reshape(-1, 3)
    pixels = pixels[pixels.min(axis=1) < 255]
    if not len(pixels):
        return np.full(3, 255.0)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    brightest = np.percentile(luma, 99.5)
    if brightest < glass_level:
        return np.full(3, 255.0)
    red, green, blue = np.median(pixels[luma >= 0.95 * brightest], axis=0)
    if green <= min(red, blue):
        return np.full(3, max(red, blue))
    return np.array([red, green, blue])


def _balance_table(glass: NDArray[np.float64]) -> NDArray[np.uint8]:
    """New level of each level of each channel, (3, 256), that makes glass grey and keeps its brightest channel."""
    return np.clip(np.rint(np.arange(256) * (glass.max() / glass)[:, None]), 0, 255).astype(np.uint8)


def find_ink(
    thumbnail: NDArray[np.uint8], glass: NDArray[np.float64], pixel_um: float, config: TilingConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Ink inside of the slide, which is pen, brown and yellow glue and dirt; and black borders: (rows, columns) bool.

    H&E absorbs green most, then red (haematoxylin) or blue (eosin, blood). So ink absorbs, in optical density,
    red more than green (blue and green pen, `ink_red_ratio`), or blue more than red by nearly what it absorbs of green
    (red and orange pen, brown, yellow, `ink_blue_ratio`), or is black (`black_level`). It must be `ink_width_um` wide,
    so single pixels of pigment, dye or dark nuclei are no ink. Black that reaches the picture's edge is a border.

    Ink is transparent and adds up with tissue: beside what is surely ink, weaker signs of the same count too.
    """
    block = max(1, int(config.ink_width_um / _STROKE_BLOCKS / pixel_um))
    small = block_means(thumbnail, block)
    red, green, blue = np.moveaxis(np.log10(glass / np.maximum(small, 1)).astype(np.float32), 2, 0)
    green = np.maximum(green, 0.01)
    coloured = np.maximum(np.maximum(red, green), blue) > config.ink_density
    hue = np.maximum(red / (green * config.ink_red_ratio), (blue - red) / (green * config.ink_blue_ratio))
    darkness = small.max(axis=2)

    wide = np.ones((max(1, round(config.ink_width_um / pixel_um / block)),) * 2, bool)
    black = _open(darkness < config.black_level, wide)
    border = _touching_the_edge(black)
    ink = _open(coloured & (hue > 1), wide) | (black & ~border)
    if ink.any():
        faint = coloured & ((hue > _FAINT_HUE) | (darkness < _FAINT_BLACK * config.black_level))
        ink |= binary_dilation(ink, wide, _GROWTH_STEPS, mask=faint)
        ink = binary_dilation(ink, _NEIGHBOURS) & ~border
    rows, columns = thumbnail.shape[:2]
    full = (mask.repeat(block, axis=0)[:rows].repeat(block, axis=1)[:, :columns] for mask in (ink, border))
    return next(full), next(full)


def block_means(image: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """Means over squares of `block` px, (rows, columns, 3); those at the far edges may be cut."""
    rows = _STRIP_ROWS // block * block or block
    strips = [Image.fromarray(image[top : top + rows]).reduce(block) for top in range(0, len(image), rows)]
    return np.concatenate([np.asarray(strip) for strip in strips])


def _open(mask: NDArray[np.bool_], window: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Morphological opening in which what is cut by the picture's edge goes on beyond it."""
    side = len(window)
    padded = np.pad(mask, side, mode="edge")
    return binary_opening(padded, window)[side:-side, side:-side]


def _touching_the_edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected parts of a mask that reach the picture's edge."""
    parts, _ = label(mask, _NEIGHBOURS)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return mask & np.isin(parts, edge)
