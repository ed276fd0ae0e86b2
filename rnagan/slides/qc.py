"""Pictures to check tiling by eye: one of each slide, and contact sheets of a run."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from rnagan.io.files import atomic_path
from rnagan.slides.tissue import TissueMasks, block_means

Colour = tuple[int, int, int]

# Colours that the colour-blind tell apart, and that H&E isn't (Okabe & Ito 2008), in the order of the legend.
OUTCOME_COLOURS: dict[str, Colour] = {
    "kept": (0, 114, 178),
    "over_limit": (86, 180, 233),
    "low_contrast": (230, 159, 0),
    "out_of_focus": (240, 228, 66),
    "ink": (213, 94, 0),
    "outside": (0, 0, 0),
}
TISSUE_COLOUR: Colour = (0, 158, 115)
INK_COLOUR: Colour = OUTCOME_COLOURS["ink"]
_TEXT: Colour = (30, 30, 30)
_FAINT: Colour = (150, 150, 150)

SLIDE_PX = 1160  # width and height into which the slide is fitted
MAX_ENLARGEMENT = 6  # of a small slide's thumbnail
MARGIN_PX = 20
MAX_FRAMES = 5000  # more tiles, or smaller ones than this, are tinted instead of framed
MIN_FRAME_PX = 7
_FRAMED_TINT = 0.12  # opacity inside of a frame
_TINT, _TINT_OTHERS = {"kept": 0.55}, 0.7  # without frames

SHEET_COLUMNS, SHEET_ROWS = 10, 15
CELL_PX, CAPTION_PX, GAP_PX = 200, 34, 10


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
    over_limit, low_contrast, out_of_focus, ink or outside. Tiles are squares of `tile_px_level0` level-0 pixels;
    background ones are counted and not drawn. `title` are lines of text, the first in larger letters. With `mpp`, µm
    per level-0 pixel, a scale bar is drawn.
    """
    rows, columns = thumbnail.shape[:2]
    scale = min(SLIDE_PX / columns, SLIDE_PX / rows, MAX_ENLARGEMENT)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    picture = _scaled(thumbnail, size, Image.Resampling.LANCZOS)
    place = tiles.assign(left=tiles["x"] * scale / pixel_px, top=tiles["y"] * scale / pixel_px)
    picture = _draw_tiles(picture, place, tile_px_level0 * scale / pixel_px)
    pixels = np.array(picture)
    for mask, colour in ((masks.tissue, TISSUE_COLOUR), (masks.ink, INK_COLOUR)):
        pixels[_outline(mask, size)] = colour
    picture = Image.fromarray(pixels)
    if mpp is not None:
        _draw_scale_bar(picture, um_per_px=pixel_px * mpp / scale)
    counts = tiles["outcome"].value_counts().to_dict()
    page = _page(picture, title, counts, bool(masks.tissue.any()), bool(masks.ink.any()))
    with atomic_path(path) as temporary:
        page.save(temporary, quality=88, subsampling=0)


def _scaled(image: NDArray[np.uint8], size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """An array at another size (width, height); a large one is averaged over squares first, which bounds memory."""
    block = max(1, image.shape[1] // (2 * size[0]))
    return Image.fromarray(block_means(image, block) if block > 1 else image).resize(size, resampling)


def _outline(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The rim of a mask at another size: 1 px wide, 2 where a small slide is enlarged."""
    shown = np.asarray(_scaled(mask.view(np.uint8), size, Image.Resampling.NEAREST)) > 0
    return shown & ~binary_erosion(shown, iterations=2 if size[0] > 2 * mask.shape[1] else 1, border_value=1)


def _draw_tiles(picture: Image.Image, tiles: pd.DataFrame, side: float) -> Image.Image:
    """Tiles in a light tint and a frame, or in a stronger tint alone where they are many or small."""
    drawn = tiles[tiles["outcome"].isin(OUTCOME_COLOURS)]
    framed = side >= MIN_FRAME_PX and len(drawn) <= MAX_FRAMES
    gap, width = (1, 2) if framed else (0, 0)
    colours, opacity = Image.new("RGB", picture.size), Image.new("L", picture.size)
    on_colours, on_opacity = ImageDraw.Draw(colours), ImageDraw.Draw(opacity)
    for outcome, left, top in _rectangles(drawn):
        left_px, top_px = round(left) + gap, round(top) + gap
        box = (left_px, top_px, max(left_px, round(left + side) - 1 - gap), max(top_px, round(top + side) - 1 - gap))
        tint = _FRAMED_TINT if framed else _TINT.get(outcome, _TINT_OTHERS)
        on_colours.rectangle(box, fill=OUTCOME_COLOURS[outcome])
        on_opacity.rectangle(box, fill=round(255 * tint), outline=255 if framed else None, width=width)
    return Image.composite(colours, picture, opacity)


def _rectangles(tiles: pd.DataFrame) -> Iterator[tuple[str, float, float]]:
    """Outcome, left and top of each tile; those that are kept last, so that they lie on top."""
    ordered = tiles.sort_values("outcome", key=lambda outcome: outcome == "kept", kind="stable")
    return zip(ordered["outcome"].tolist(), ordered["left"].tolist(), ordered["top"].tolist(), strict=True)


def _draw_scale_bar(picture: Image.Image, um_per_px: float) -> None:
    """A bar of a round length, about a fifth of the picture's width, at the lower left."""
    about_um = 0.2 * picture.width * um_per_px
    power = 10 ** np.floor(np.log10(about_um))
    length_um = max(step * power for step in (1, 2, 5) if step * power <= about_um)
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    pen, font = ImageDraw.Draw(picture), _font(16)
    length, bottom = round(length_um / um_per_px), picture.height - 12
    width = max(length, round(pen.textlength(text, font)))
    pen.rectangle((6, bottom - 32, 6 + width + 12, bottom + 6), fill="white")
    pen.rectangle((12, bottom - 5, 12 + length, bottom), fill=_TEXT)
    pen.text((12, bottom - 28), text, _TEXT, font)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font: Pillow's built-in one has no × and no µ."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _page(
    picture: Image.Image, title: Sequence[str], counts: dict[str, int], has_tissue: bool, has_ink: bool
) -> Image.Image:
    """The slide between its title and its legend."""
    heading, text = _font(24), _font(17)
    width = max(picture.width, 640) + 2 * MARGIN_PX
    entries = list(_legend(counts, has_tissue, has_ink))
    lines = _wrap(entries, text, width - 2 * MARGIN_PX)
    top = MARGIN_PX + 34 + 26 * (len(title) - 1) + 8
    page = Image.new("RGB", (width, top + picture.height + 16 + 28 * len(lines) + MARGIN_PX // 2), "white")
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(title):
        font = text if number else heading
        y = MARGIN_PX + 34 + 26 * (number - 1) if number else MARGIN_PX
        pen.text((MARGIN_PX, y), _shortened(line, font, width - 2 * MARGIN_PX), _TEXT, font)
    page.paste(picture, (MARGIN_PX, top))
    pen.rectangle((MARGIN_PX - 1, top - 1, MARGIN_PX + picture.width, top + picture.height), outline=(210, 210, 210))
    for number, signs in enumerate(lines):
        y = top + picture.height + 16 + 28 * number
        for x, (kind, colour, words) in signs:
            if kind == "tile":
                pen.rectangle((x, y + 2, x + 15, y + 17), outline=colour, width=3)
            elif kind == "outline":
                pen.line((x, y + 10, x + 16, y + 10), fill=colour, width=3)
            pen.text((x + (24 if kind else 0), y - 1), words, _TEXT if kind else _FAINT, text)
    return page


def _legend(counts: dict[str, int], has_tissue: bool, has_ink: bool) -> Iterator[tuple[str, Colour, str]]:
    """Kind of sign, its colour and its words; what a slide hasn't got is left out."""
    for outcome, colour in OUTCOME_COLOURS.items():
        if counts.get(outcome) or outcome == "kept":
            yield "tile", colour, f"{outcome.replace('_', ' ')} {counts.get(outcome, 0):,}"
    if has_tissue:
        yield "outline", TISSUE_COLOUR, "edge of tissue"
    if has_ink:
        yield "outline", INK_COLOUR, "edge of ink"
    if counts.get("background"):
        yield "", _FAINT, f"not drawn: background {counts['background']:,}"


def _wrap(
    entries: list[tuple[str, Colour, str]], font: ImageFont.FreeTypeFont, width: int
) -> list[list[tuple[int, tuple[str, Colour, str]]]]:
    """Legend entries with their x, in as many lines as they need."""
    lines: list[list[tuple[int, tuple[str, Colour, str]]]] = [[]]
    x = MARGIN_PX
    for entry in entries:
        length = 24 + round(font.getlength(entry[2])) + 26
        if lines[-1] and x + length - 26 > MARGIN_PX + width:
            lines.append([])
            x = MARGIN_PX
        lines[-1].append((x, entry))
        x += length
    return lines


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Text that fits into `width` px, its middle left out where it must be: names differ at both ends."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if font.getlength(short) <= width:
            return short
    return "…"


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
            _sheet(folder, {slide: captions[slide] for slide in part}).save(temporary, compress_level=3)
    for path in folder.glob("contact_sheet*.png"):
        if re.fullmatch(rf"{re.escape(stem)}(_\d+)?\.png", path.name) and path.name not in names:
            path.unlink()
    return [folder / name for name in names]


def _leading_number(caption: str) -> int:
    number = re.match(r"[\d,]+", caption)
    return int(number[0].replace(",", "") or -1) if number else -1


def _sheet(folder: Path, captions: dict[str, str]) -> Image.Image:
    columns = min(SHEET_COLUMNS, len(captions))
    rows = -(-len(captions) // columns)
    pitch_x, pitch_y = CELL_PX + GAP_PX, CELL_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * pitch_x + GAP_PX, rows * pitch_y + GAP_PX), "white")
    pen, font = ImageDraw.Draw(sheet), _font(13)
    for number, (slide, caption) in enumerate(captions.items()):
        left, top = GAP_PX + number % columns * pitch_x, GAP_PX + number // columns * pitch_y
        picture = _small(folder / f"{slide}.jpg")
        sheet.paste(picture, (left + (CELL_PX - picture.width) // 2, top + (CELL_PX - picture.height) // 2))
        pen.text((left, top + CELL_PX + 2), _shortened(slide, font, CELL_PX), _TEXT, font)
        pen.text((left, top + CELL_PX + 17), _shortened(caption, font, CELL_PX), _FAINT, font)
    return sheet


def _small(path: Path) -> Image.Image:
    """A picture fitted into a cell, or a grey field where there is none that can be read."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (CELL_PX, CELL_PX))
            image.thumbnail((CELL_PX, CELL_PX))
            return image.convert("RGB")
    except (OSError, SyntaxError):
        return Image.new("RGB", (CELL_PX, CELL_PX), (225, 225, 225))
