from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rnagan.reports.figures import (
    COLOURS,
    confusion_figure,
    curves,
    in_legend,
    real_beside_generated,
    response_curves,
    run_style,
    save_figure,
    spectra_figure,
    tile_strip,
)
from rnagan.reports.labels import MEASURES


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


HOSTILE = {
    "$\\frac{$": [1.0],
    "$x$_1^2": [2.0],
    "_hidden": [3.0],
    "a\\$b $": [4.0],
    "\x1b[31m\u202e": [5.0],
    "x\ny": [6.0],
}


@pytest.mark.attack(kind=8, ends="unharmed")
@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_no_formulas(tmp_path: Path) -> None:
    runs = {name: [{"images": n, "loss": value[0]} for n in (1, 2)] for name, value in HOSTILE.items()}
    curves(tmp_path / "curves.png", runs, {"loss": "$\\frac{$"}, "$\\bad{$")
    confusion_figure(tmp_path / "confusion.png", {"$\\frac{$": np.eye(6, dtype=np.int64)}, list(HOSTILE))
    tile_strip(tmp_path / "strip.png", np.zeros((1, 1, 8, 8, 3), np.uint8), ["$\\frac{$"], ["_"], {})
    spectra_figure(
        tmp_path / "spectra.png", {"$\\frac{$": np.eye(4)}, {name: ([0.1, 0.2], [1.0, 9.0]) for name in HOSTILE}, [2]
    )
    rows = [(name, measure, step, 0.1, 0.0, 0.2) for name in HOSTILE for measure in MEASURES for step in (0, 1)]
    table = pd.DataFrame(rows, columns=["tissue", "measure", "step", "mean", "low", "high"])
    response_curves(tmp_path / "response.png", table, "$\\frac{$")
    assert {path.stem for path in tmp_path.glob("*.png")} == {"curves", "confusion", "strip", "spectra", "response"}


def test_a_name_is_drawn_as_it_is_and_a_logarithmic_tick_as_a_formula(tmp_path: Path) -> None:
    figure, axis = plt.subplots()
    axis.semilogy([1, 2], [1, 1000], label=in_legend("_x"))
    legend = axis.legend()
    title = axis.set_title("$x$")
    save_figure(figure, tmp_path / "log.png")
    assert not title.get_parse_math() and [text.get_text() for text in legend.get_texts()] == [" _x"]
    assert all(tick.get_parse_math() for tick in axis.get_yticklabels())
    assert any("mathdefault" in tick.get_text() for tick in axis.get_yticklabels())
