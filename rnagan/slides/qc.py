"""Pictures to check tiling by eye: one of each slide, and contact sheets of a run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray
from PIL import Image

from rnagan.io.files import atomic_path
from rnagan.io.images import open_image
from rnagan.slides.tissue import TissueMasks, block_means

# Colours that the colour-blind tell apart, and that H&E isn't (Okabe & Ito 2008), in the order of the legend.
OUTCOME_COLOURS = {
    "kept": (0, 114, 178),
    "over_limit": (86, 180, 233),
    "low_contrast": (230, 159, 0),
    "out_of_focus": (240, 228, 66),
    "ink": (213, 94, 0),
    "outside": (0, 0, 0),
    "unreadable": (128, 128, 128),
    "not_in_tissue": (165, 165, 165),
    "few_counts": (120, 60, 0),
    "blank": (204, 121, 167),
}
TISSUE_COLOUR = (0, 158, 115)
INK_COLOUR = OUTCOME_COLOURS["ink"]
_TEXT, _FAINT = "0.12", "0.55"  # grey levels

_DPI = 72  # so that sizes of letters and widths of lines are in px
SLIDE_PX = 1160  # width and height into which the slide is fitted
MAX_ENLARGEMENT = 6  # of a small slide's thumbnail
MIN_PAGE_PX, MARGIN_PX = 760, 20
HEADING_PX, TEXT_PX, LINE_PX = 24, 17, 26
LEGEND_COLUMN_PX = 190
MAX_FRAMES = 5000  # more tiles, or smaller ones than this, are tinted instead of framed
MIN_FRAME_PX = 7
_FRAMED_TINT = 0.12  # opacity inside of a frame
_TINT, _TINT_KEPT = 0.7, 0.55  # without frames

SHEET_COLUMNS, SHEET_ROWS = 10, 15
CELL_PX, CAPTION_PX, GAP_PX = 200, 34, 10
CAPTION_TEXT_PX = 13
_LETTER = 0.58  # width of a letter at most on average, as a share of the text's size


def draw_qc(
    path: Path | str,
    thumbnail: NDArray[np.uint8],
    masks: TissueMasks,
    tiles: pd.DataFrame,
    tile_px_level0: float,
    pixel_px: float,
    title: Sequence[str],
    mpp: float | None = None,
) -> None:
    """Write, by rename, a picture of what became of a slide: JPEG or PNG by the name's ending, at most 1,200 px wide.

    `thumbnail` (rows, columns, 3) uint8 RGB and `masks` of the same size, whose pixels span `pixel_px` level-0 pixels.
    `tiles` has a row for each position: `x`, `y` (level-0 px of the corner) and `outcome`: kept, background,
    over_limit, low_contrast, out_of_focus, ink or outside; of spots also not_in_tissue, few_counts or blank. Tiles are
    squares of `tile_px_level0` level-0 pixels; background ones are counted and not drawn. `title` are lines of text,
    the first in larger letters. With `mpp`, µm per level-0 pixel, a scale bar is drawn.
    """
    rows, columns = thumbnail.shape[:2]
    scale = min(SLIDE_PX / columns, SLIDE_PX / rows, MAX_ENLARGEMENT)
    width, height = max(1, round(columns * scale)), max(1, round(rows * scale))
    counts = tiles["outcome"].value_counts().to_dict()
    signs, background = _signs(counts, masks), counts.get("background")
    page_width = max(width + 2 * MARGIN_PX, MIN_PAGE_PX)
    legend_columns = page_width // LEGEND_COLUMN_PX
    legend_lines = -(-len(signs) // legend_columns) + bool(background)
    above, below = HEADING_PX + LINE_PX * len(title[1:]) + 2 * MARGIN_PX, LINE_PX * legend_lines + MARGIN_PX
    page_height = above + height + below
    page = _page(page_width, page_height)
    for number, line in enumerate(title):
        y = MARGIN_PX + HEADING_PX + LINE_PX * (number - 1) + 10 if number else MARGIN_PX
        _write(page, MARGIN_PX, y, line, TEXT_PX if number else HEADING_PX, page_width - 2 * MARGIN_PX)
    box = MARGIN_PX / page_width, below / page_height, width / page_width, height / page_height
    axes = page.add_axes(box)
    page.figimage(_scaled(thumbnail, width, height), MARGIN_PX, below)
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0), facecolor="none", zorder=1)  # in px
    axes.spines[:].set_color("0.82")
    _draw_tiles(axes, tiles, scale / pixel_px, tile_px_level0 * scale / pixel_px)
    for mask, colour in ((masks.tissue, TISSUE_COLOUR), (masks.ink, INK_COLOUR)):
        if mask.any() and min(width, height) > 1:
            share = _scaled(mask.view(np.uint8) * np.uint8(255), width, height)
            axes.contour(share, levels=[127], colors=[_rgb(colour)], linewidths=1.5, antialiased=False)
    if mpp is not None:
        _draw_scale_bar(axes, width, pixel_px * mpp / scale)
    page.legend(
        handles=signs,
        ncols=legend_columns,
        loc="upper left",
        bbox_to_anchor=(MARGIN_PX / page_width, (below - MARGIN_PX / 2) / page_height),
        borderpad=0,
        borderaxespad=0,
        frameon=False,
        fontsize=TEXT_PX,
        handlelength=1,
        columnspacing=1.2,
        title=f"not drawn: background {background:,}" if background else None,
        title_fontsize=TEXT_PX,
        alignment="left",
    )
    with atomic_path(path) as temporary:
        options = {} if temporary.suffix == ".png" else {"quality": 88, "subsampling": 0}
        page.savefig(temporary, pil_kwargs=options)


def _page(width: int, height: int) -> Figure:
    return Figure((width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")


def _write(page: Figure, x: int, y: int, text: str, size: int, width: int, colour: str = _TEXT) -> None:
    """Text below and right of pixel (x, y), counted from the top left. The middle of a text that is too long for
    `width` px is left out: names differ at both ends."""
    most = int(width / (_LETTER * size))
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
    page.text(x, page.bbox.height - y, text, transform=None, va="top", fontsize=size, color=colour, parse_math=False)


def _scaled(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """An array at another size; a large one is averaged over squares first, which bounds memory."""
    block = max(1, image.shape[1] // (2 * width))
    return np.asarray(Image.fromarray(block_means(image, block)).resize((width, height), Image.Resampling.BICUBIC))


def _draw_tiles(axes: Axes, tiles: pd.DataFrame, scale: float, side: float) -> None:
    """Tiles in a light tint and a frame, or in a stronger tint alone where they are many or small; kept ones on top.

    `scale`: px of the page for a level-0 pixel. `side`: of a tile, px of the page.
    """
    drawn = tiles[tiles["outcome"].isin(OUTCOME_COLOURS)]
    drawn = drawn.sort_values("outcome", key=lambda outcome: outcome == "kept", kind="stable")
    colours = np.array([_rgb(OUTCOME_COLOURS[outcome]) for outcome in drawn["outcome"]]).reshape(-1, 3)
    framed = side >= MIN_FRAME_PX and len(drawn) <= MAX_FRAMES
    tint, gap = np.where(drawn["outcome"] == "kept", _TINT_KEPT, _TINT), 0
    if framed:
        tint, gap = np.full(len(drawn), _FRAMED_TINT), 2
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * (side - 2 * gap) + gap
    corners = drawn[["x", "y"]].to_numpy(float) * scale
    faces = np.column_stack([colours, tint])
    edges = colours if framed else "none"
    shapes = PolyCollection(corners[:, None] + square, facecolors=faces, edgecolors=edges, linewidths=2)
    axes.add_collection(shapes, autolim=False)


def _draw_scale_bar(axes: Axes, width: int, um_per_px: float) -> None:
    """A bar of a round length, about a fifth of the picture's width, at the lower left."""
    about_um = 0.2 * width * um_per_px
    power = 10 ** np.floor(np.log10(about_um))
    length_um = max(step * power for step in (1, 2, 5) if step * power <= about_um)
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    letters = FontProperties(size=16)
    bar = AnchoredSizeBar(
        axes.transData, length_um / um_per_px, text, "lower left", size_vertical=5, sep=4, fontproperties=letters
    )
    bar.set(zorder=5)
    bar.patch.set_edgecolor("none")
    axes.add_artist(bar)


def _signs(counts: dict[str, int], masks: TissueMasks) -> list[Patch | Line2D]:
    """The signs of the legend; what a slide hasn't got is left out."""
    signs: list[Patch | Line2D] = [
        Patch(fill=False, linewidth=3, edgecolor=_rgb(colour), label=f"{outcome.replace('_', ' ')} {count:,}")
        for outcome, colour in OUTCOME_COLOURS.items()
        if (count := counts.get(outcome, 0)) or outcome == "kept"
    ]
    edges = (("tissue", masks.tissue, TISSUE_COLOUR), ("ink", masks.ink, INK_COLOUR))
    lines = [Line2D([], [], color=_rgb(c), linewidth=3, label=f"edge of {name}") for name, m, c in edges if m.any()]
    return [*signs, *lines]


def _rgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def write_contact_sheets(folder: Path | str, captions: Mapping[str, str], part_name: str = "") -> list[Path]:
    """Write, by rename, sheets of 150 of the pictures `folder/SLIDE.jpg` each, and return their paths.

    `captions`: slide → what became of it. Slides without tiles come first, then those with fewest ("412 tiles"). A
    slide without a picture gets a grey field. One sheet is `contact_sheet{part_name}.png`, several end in `_1`, `_2`,
    …; sheets of an earlier run that aren't written again are deleted.
    """
    folder = Path(folder)
    slides = sorted(captions, key=lambda slide: (_leading_number(captions[slide]), slide))
    a_sheet = SHEET_COLUMNS * SHEET_ROWS
    parts = [slides[first : first + a_sheet] for first in range(0, len(slides), a_sheet)]
    stem = f"contact_sheet{part_name}"
    names = [f"{stem}.png"] if len(parts) == 1 else [f"{stem}_{number}.png" for number in range(1, len(parts) + 1)]
    for name, part in zip(names, parts, strict=True):
        with atomic_path(folder / name) as temporary:
            sheet = _sheet(folder, {slide: captions[slide] for slide in part})
            sheet.savefig(temporary, pil_kwargs={"compress_level": 3})
    for path in folder.glob("contact_sheet*.png"):
        if re.fullmatch(rf"{re.escape(stem)}(_\d+)?\.png", path.name) and path.name not in names:
            path.unlink()
    return [folder / name for name in names]


def _leading_number(caption: str) -> int:
    number = re.match(r"[\d,]+", caption)
    return int(number[0].replace(",", "") or -1) if number else -1


def _sheet(folder: Path, captions: dict[str, str]) -> Figure:
    columns = min(SHEET_COLUMNS, len(captions))
    rows = -(-len(captions) // columns)
    pitch_x, pitch_y = CELL_PX + GAP_PX, CELL_PX + CAPTION_PX + GAP_PX
    page = _page(columns * pitch_x + GAP_PX, rows * pitch_y + GAP_PX)
    pictures = Image.new("RGB", (columns * pitch_x + GAP_PX, rows * pitch_y + GAP_PX), "white")
    for number, (slide, caption) in enumerate(captions.items()):
        left, top = GAP_PX + number % columns * pitch_x, GAP_PX + number // columns * pitch_y
        picture = _small(folder / f"{slide}.jpg")
        pictures.paste(picture, (left + (CELL_PX - picture.width) // 2, top + (CELL_PX - picture.height) // 2))
        _write(page, left, top + CELL_PX + 3, slide, CAPTION_TEXT_PX, CELL_PX)
        _write(page, left, top + CELL_PX + 18, caption, CAPTION_TEXT_PX, CELL_PX, _FAINT)
    page.figimage(np.asarray(pictures))
    return page


def _small(path: Path) -> Image.Image:
    """A picture fitted into a cell, or a grey field where there is none that can be read."""
    try:
        with open_image(path) as image:
            image.draft("RGB", (CELL_PX, CELL_PX))
            image.thumbnail((CELL_PX, CELL_PX))
            return image.convert("RGB")
    except (OSError, ValueError):
        return Image.new("RGB", (CELL_PX, CELL_PX), (225, 225, 225))
