"""What is tissue on a thumbnail: H&E of every kind, and nothing that people or scanners add."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnagan.config.tiling import TilingConfig
from rnagan.slides.slide import Slide
from rnagan.slides.tissue import find_tissue

DATA = Path(__file__).parents[3] / "shared" / "data"
CONFIG = TilingConfig()
GLASS = (243, 243, 242)
HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])  # Ruifrok & Johnston 2001
PENS = {
    "blue": (40, 70, 170),
    "green": (30, 140, 80),
    "red": (200, 40, 50),
    "black": (35, 35, 40),
    "orange": (230, 120, 40),
}


def tissue_mask(thumbnail):
    return find_tissue(thumbnail, 8.0, CONFIG).tissue


def slide_of(colour, noise=3):
    random = np.random.default_rng(0)
    return np.clip(np.array(colour) + random.normal(0, noise, (60, 80, 3)), 0, 255).astype(np.uint8)


def test_air_inside_lung_is_background_and_pale_tissue_is_tissue():
    image = slide_of((243, 243, 242), 1)
    image[10:50, 10:60] = (170, 80, 160)
    image[20:30, 20:40] = 246  # alveolar air
    image[30:40, 62:78] = (236, 212, 228)  # pale
    mask = tissue_mask(image)
    assert mask[10:20, 10:60].all() and mask[30:40, 62:78].all()
    assert not mask[20:30, 20:40].any() and not mask[:9].any()


@pytest.mark.parametrize("glass", [(244, 244, 244), (240, 238, 233), (0, 0, 0)])
def test_a_slide_of_glass_has_no_tissue(glass):
    assert tissue_mask(slide_of(glass, 1)).mean() < 0.01
    assert not tissue_mask(np.full((20, 30, 3), glass, np.uint8)).any()


def test_a_slide_full_of_tissue_is_all_tissue():
    image = slide_of((220, 150, 200), 5)
    image[:, 40:] = slide_of((120, 50, 130), 5)[:, 40:]
    assert tissue_mask(image).mean() > 0.99


def stained(haematoxylin, eosin, shape=(300, 400), seed=0):
    """H&E with grains, as OD of the two stains: uint8 RGB on glass-coloured light."""
    random = np.random.default_rng(seed)
    grain = np.clip(1 + 0.25 * random.normal(size=(*shape, 1)), 0.4, 1.8)
    density = grain * (haematoxylin * HAEMATOXYLIN + eosin * EOSIN)
    return np.clip(np.array(GLASS) * 10.0**-density, 0, 255).astype(np.uint8)


def with_glass(tissue):
    image = np.empty((500, 700, 3), np.uint8)
    image[:] = np.clip(np.array(GLASS) + np.random.default_rng(1).normal(0, 1, image.shape), 0, 255)
    image[100 : 100 + tissue.shape[0], 150 : 150 + tissue.shape[1]] = tissue
    return image


@pytest.mark.parametrize(
    ("haematoxylin", "eosin"),
    [(0.15, 0.35), (0.7, 0.1), (1.1, 0.2), (0.05, 0.9), (0.02, 0.12), (0.9, 0.9)],
    ids=["usual", "lymphocytes", "dark nuclei", "blood", "pale", "thick"],
)
def test_tissue_of_every_shade_is_tissue(haematoxylin, eosin):
    image = with_glass(stained(haematoxylin, eosin))
    masks = find_tissue(image, 8.0, CONFIG)
    assert masks.tissue[105:395, 155:545].mean() > 0.99 and not masks.ink.any()
    assert masks.tissue[:95].mean() < 0.001


STROKE = np.s_[200:250, 30:670]  # 0.4 mm wide, over glass and tissue
INNER = np.s_[203:247, 35:665]


@pytest.mark.parametrize("pen", PENS)
@pytest.mark.parametrize("opaque", [True, False])
def test_pen_marks_are_no_tissue(pen, opaque):
    """Ink multiplies what lies under it. Transparent ink over tissue looks like dark tissue, and stays tissue where it
    is more than 0.2 mm from ink over glass: there only opaque ink is recognised."""
    image = with_glass(stained(0.15, 0.35))
    clean = find_tissue(image, 8.0, CONFIG).tissue
    if opaque:
        image[STROKE] = PENS[pen]
    else:
        image[STROKE] = image[STROKE] * (np.array(PENS[pen]) / 245)
    masks = find_tissue(image, 8.0, CONFIG)
    stroke, around = np.zeros((2, *clean.shape), bool)
    stroke[INNER], around[190:260, 20:680] = True, True
    seen = stroke if opaque else stroke & ~clean
    assert masks.tissue[seen].mean() < 0.02 and masks.ink[seen].mean() > 0.97
    assert (masks.tissue == clean)[~around].mean() > 0.999 and not (masks.tissue & masks.ink).any()
    unaware = find_tissue(image, 8.0, CONFIG.replace(ink=False)).tissue
    assert pen == "black" or unaware[seen].mean() > 0.9  # what the rule is for


@pytest.mark.parametrize(
    "colour", [(5, 5, 5), (60, 60, 62), (128, 128, 128), (255, 255, 255)], ids=["black", "dark", "grey", "white"]
)
def test_borders_and_padding_are_no_tissue(colour):
    image = with_glass(stained(0.15, 0.35))
    random = np.random.default_rng(2)
    frame = np.clip(np.array(colour) + random.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
    for edge in (np.s_[:40], np.s_[-40:], np.s_[:, :60], np.s_[:, -60:]):
        image[edge] = frame[edge]
    masks = find_tissue(image, 8.0, CONFIG)
    assert not masks.tissue[:40].any() and not masks.tissue[:, :60].any()
    assert masks.tissue[105:395, 155:545].mean() > 0.99


@pytest.mark.parametrize("colour", [(214, 190, 140), (225, 215, 170), (170, 130, 90)], ids=["glue", "yellow", "dirt"])
def test_glue_and_dirt_are_no_tissue(colour):
    image = with_glass(stained(0.15, 0.35))
    image[420:490, 20:680] = colour
    masks = find_tissue(image, 8.0, CONFIG)
    assert masks.tissue[423:487, 23:677].mean() < 0.02
    assert masks.tissue[105:395, 155:545].mean() > 0.99


def test_glass_of_another_colour_is_glass():
    image = with_glass(stained(0.15, 0.35)).astype(float) * (1.0, 0.97, 0.90)
    masks = find_tissue(image.astype(np.uint8), 8.0, CONFIG)
    assert masks.tissue[:95].mean() < 0.01 and masks.tissue[105:395, 155:545].mean() > 0.99


def test_narrow_marks_are_left_to_the_pathologist():
    image = with_glass(stained(0.15, 0.35))
    image[200:204] = PENS["blue"]  # 32 µm wide
    assert not find_tissue(image, 8.0, CONFIG).ink.any()
    assert find_tissue(image, 32.0, CONFIG).ink.any()  # 128 µm


@pytest.mark.skipif(not DATA.is_dir(), reason="the real slides and tiles are not here")
def test_real_tissue_loses_next_to_nothing():
    slides = ("CMU-1-Small-Region.svs", "liver_tile01_pyramid.tif")
    for name in slides:
        with Slide(DATA / "slides" / name) as slide:
            thumbnail = slide.thumbnail(8.0).pixels
        aware, unaware = (find_tissue(thumbnail, 8.0, CONFIG.replace(ink=ink)).tissue for ink in (True, False))
        assert unaware.mean() > 0.25 and (unaware & ~aware).sum() <= 0.01 * unaware.sum()
    lost = total = 0
    for path in [*sorted((DATA / "tiles" / "lung").iterdir())[::8], *sorted((DATA / "tiles" / "colon").iterdir())[::8]]:
        tile = np.asarray(Image.open(path).convert("RGB").reduce(8))  # each photographed on glass of its own colour
        aware, unaware = (find_tissue(tile, 4.0, CONFIG.replace(ink=ink)).tissue for ink in (True, False))
        lost, total = lost + (unaware & ~aware).sum(), total + unaware.sum()
    assert total > 100_000 and lost <= 0.01 * total
