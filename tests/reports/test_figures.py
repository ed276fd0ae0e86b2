from pathlib import Path

from PIL import Image

from rnagan.reports.figures import COLOURS, curves, run_style


def test_curves_have_a_panel_for_each_metric_that_a_run_has(tmp_path: Path) -> None:
    runs = {"a": [{"images": 8, "seconds": 1.0, "loss": 1.0, "fid": 2.0}], "b": []}
    curves(tmp_path / "two.png", runs, {"loss": "loss", "fid": "FID", "none": "nobody's"}, "images")
    curves(tmp_path / "one.png", runs, {"loss": "loss", "none": "nobody's"}, "seconds", "seconds")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert abs(two.size[0] - 2 * one.size[0]) < 3 and two.size[1] == one.size[1]


def test_runs_are_told_apart_by_colour_then_by_dashes() -> None:
    styles = [tuple(run_style(k).values()) for k in range(4 * len(COLOURS))]
    assert len(set(styles)) == len(styles) and styles[0][0] == styles[len(COLOURS)][0]
