import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rnagan.slides.qc import INK_COLOUR, OUTCOME_COLOURS, TISSUE_COLOUR, draw_qc, write_contact_sheets
from rnagan.slides.tissue import TissueMasks


def near(picture, colour, tolerance=40):
    return np.abs(picture.astype(int) - colour).max(axis=2) < tolerance


def slide(rows=300, columns=400):
    thumbnail = np.full((rows, columns, 3), 243, np.uint8)
    tissue, ink = np.zeros((2, rows, columns), bool)
    tissue[50:250, 100:300], ink[260:290, 20:380] = True, True
    thumbnail[tissue], thumbnail[ink] = (214, 160, 200), (60, 80, 160)
    return thumbnail, TissueMasks(tissue, ink)


def tiles(**outcomes):
    rows = [(x, y, outcome) for outcome, corners in outcomes.items() for x, y in corners]
    return pd.DataFrame(rows, columns=["x", "y", "outcome"])


def draw(path, table, **options):
    thumbnail, masks = slide()
    draw_qc(path, thumbnail, masks, table, 640.0, 16.0, ["slide one", "6,400 × 4,800 px"], **options)
    return np.asarray(Image.open(path).convert("RGB"))


def test_tiles_lie_where_they_lie_on_the_slide(tmp_path):
    """A tile of 640 level-0 px is 40 thumbnail px wide; its frame must be where that is, in x and in y."""
    table = tiles(kept=[(1600, 800)], low_contrast=[(3200, 2400)], background=[(0, 0)])
    picture = draw(tmp_path / "a.png", table)
    left, top = 20, picture.shape[0]
    frames = {name: np.argwhere(near(picture, OUTCOME_COLOURS[name])) for name in ("kept", "low_contrast")}
    scale = 1160 / 400
    top = next(y for y in range(picture.shape[0]) if near(picture[y : y + 1, 20:], (243, 243, 243), 6).mean() > 0.6)
    for name, (x, y) in (("kept", (100, 50)), ("low_contrast", (200, 150))):
        inside = frames[name][frames[name][:, 0] < top + 300 * scale]
        corner, end = inside.min(axis=0), inside.max(axis=0)
        assert corner == pytest.approx([top + y * scale, left + x * scale], abs=4)
        assert end - corner == pytest.approx([40 * scale, 40 * scale], abs=5)
    assert near(picture, TISSUE_COLOUR).sum() > 800 and near(picture, INK_COLOUR).sum() > 800


def test_counts_and_words_are_on_the_page(tmp_path):
    one = draw(tmp_path / "a.png", tiles(kept=[(1600, 800)]))
    two = draw(tmp_path / "b.png", tiles(kept=[(1600, 800)], out_of_focus=[(2240, 800)]))
    legend = slice(min(len(one), len(two)) - 40, None)
    assert one.shape[1] <= 1200 and near(two[legend], OUTCOME_COLOURS["out_of_focus"]).any()
    assert not near(one[legend], OUTCOME_COLOURS["out_of_focus"]).any()
    assert (draw(tmp_path / "c.png", tiles(kept=[(1600, 800)]), mpp=0.5) != one).any()  # a scale bar


def test_a_slide_without_any_tile_is_drawn(tmp_path):
    assert draw(tmp_path / "a.jpg", tiles(background=[(0, 0)])).shape[2] == 3


def test_a_large_slide_takes_a_moment_and_is_small(tmp_path):
    thumbnail = np.full((5000, 6250, 3), 240, np.uint8)
    tissue = np.zeros((5000, 6250), bool)
    tissue[1000:4000, 1000:5000] = True
    y, x = np.mgrid[0:312, 0:390] * 256
    outcome = np.where((y > 16_000) & (y < 64_000) & (x > 16_000) & (x < 80_000), "kept", "background")
    table = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "outcome": outcome.ravel()})
    began = time.process_time()  # what others do on the machine doesn't count
    masks = TissueMasks(tissue, np.zeros_like(tissue))
    draw_qc(tmp_path / "a.jpg", thumbnail, masks, table, 256.0, 16.0, ["large"])
    assert time.process_time() - began < 5  # 1.5 s
    assert (tmp_path / "a.jpg").stat().st_size < 2e6 and max(Image.open(tmp_path / "a.jpg").size) <= 1400


def test_contact_sheets_show_the_poorest_first_and_leave_no_old_ones(tmp_path):
    for number in range(160):
        Image.new("RGB", (300, 200), (number, 255 - number, 90)).save(tmp_path / f"s{number:03d}.jpg")
    captions = {f"s{number:03d}": f"{1000 - number:,} tiles" for number in range(160)} | {"bad": "failed: unreadable"}
    sheets = write_contact_sheets(tmp_path, captions)
    assert [path.name for path in sheets] == ["contact_sheet_1.png", "contact_sheet_2.png"]
    first = np.asarray(Image.open(sheets[0]).convert("RGB"))
    assert near(first[10:210, 10:210], (225, 225, 225), 6).mean() > 0.9  # no picture: a grey field
    assert near(first[100, 220 : 220 + 200][None], (159, 96, 90), 12).mean() > 0.9  # then s159
    assert [path.name for path in write_contact_sheets(tmp_path, {"s001": "9 tiles"})] == ["contact_sheet.png"]
    assert sorted(path.name for path in tmp_path.glob("contact*")) == ["contact_sheet.png"]
    assert write_contact_sheets(tmp_path, {"s001": "9 tiles"}, "_part1of2")[0].name == "contact_sheet_part1of2.png"
    assert (tmp_path / "contact_sheet.png").exists()
