from pathlib import Path

import numpy as np
from PIL import Image

from rnagan.reports.figures import COLOURS, curves, real_beside_generated, run_style, tile_strip


def test_curves_have_a_panel_for_each_metric_that_a_run_has(tmp_path: Path) -> None:
    runs = {"a": [{"images": 8, "seconds": 1.0, "loss": 1.0, "fid": 2.0}], "b": []}
    curves(tmp_path / "two.png", runs, {"loss": "loss", "fid": "FID", "none": "nobody's"}, "images")
    curves(tmp_path / "one.png", runs, {"loss": "loss", "none": "nobody's"}, "seconds", "seconds")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert abs(two.size[0] - 2 * one.size[0]) < 3 and two.size[1] == one.size[1]


def test_runs_differ_by_colour_then_by_dashes() -> None:
    styles = [tuple(run_style(k).values()) for k in range(4 * len(COLOURS))]
    assert len(set(styles)) == len(styles) and styles[0][0] == styles[len(COLOURS)][0]


def test_tiles_lie_beside_their_names_under_their_titles(tmp_path: Path) -> None:
    tiles = np.full((2, 3, 8, 8, 3), 90, np.uint8)
    tile_strip(tmp_path / "strip.png", tiles, ["one", "two"], ["a", "b", "c"], {"Synthetic": "true"})
    real = [np.full((4, 8, 8, 3), 40, np.uint8), np.full((2, 8, 8, 3), 40, np.uint8)]
    real_beside_generated(tmp_path / "both.png", real, tiles, ["one", "two"], {"Synthetic": "true"})
    for name, counts in (("strip.png", {90: 6}), ("both.png", {40: 4, 90: 4})):  # two columns a side: the shortest row
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture.convert("RGB"))[18:, 8 + 7 * 3 :]  # below the titles, beside the names
            assert picture.text["Synthetic"] == "true"
        assert {grey: (pixels == grey).all(axis=2).sum() // 64 for grey in counts} == counts
