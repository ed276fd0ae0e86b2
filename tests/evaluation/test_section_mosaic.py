"""Sections drawn from their expression, beside the real ones."""

import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from rnagan.api import RNAGAN
from rnagan.commands.generate_tiles import main
from rnagan.data.index import open_dataset
from rnagan.evaluation.real_tiles import read_tiles
from rnagan.evaluation.section_mosaic import draw_sections
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json
from rnagan.reports.section_pictures import section_picture


def test_tiles_lie_at_their_spots_beside_the_real_ones(section_set, section_run, tmp_path):
    asked = {"shards": section_set.shards, "n": 2, "split": "test", "device": "cpu"}
    lines = draw_sections(section_run, section_set.expression, section_set.cohort, tmp_path / "out", **asked)
    assert lines == [f"{tmp_path / 'out'}: S4, 72 spots."]
    with Image.open(tmp_path / "out/S4.png") as picture:
        pixels = np.asarray(picture)
        assert picture.text["Synthetic"] == "true" and "Left: real tiles" in picture.text["Description"]
    assert pixels.shape == (20 + 8 * 32, 2 * 9 * 32 + 16, 3)
    profiles = open_profiles(section_set.expression)
    own = profiles[["S4_2x5"]].copy()
    tile = RNAGAN.from_pretrained(section_run, "cpu").generate(own, 1)[0, 0]
    top, left = 20 + 5 * 32, 2 * 32  # x to the right, y down
    shown = pixels[top : top + 32, 9 * 32 + 16 + left :][:, :32]
    assert np.abs(shown.astype(int) - tile).max() <= 1
    rows = pd.DataFrame({"slide": ["S4"], "sample": ["S4_2x5"]})
    (real,) = read_tiles(open_dataset(section_set.shards), rows, 1, 32)
    assert np.array_equal(pixels[top : top + 32, left : left + 32], real[0])
    table = pd.read_csv(tmp_path / "out/measures.csv").set_index("sample")
    assert len(table) == 72 and table.loc["S4_2x5", ["x", "y"]].tolist() == [11, 5]
    assert table["haematoxylin_real"].std() > 0 and (tmp_path / "out/S4_maps.png").is_file()
    again = draw_sections(section_run, section_set.expression, section_set.cohort, tmp_path / "out", **asked)
    assert again == [f"{tmp_path / 'out'} is up to date."]


def test_a_section_without_an_image(section_set, section_run, tmp_path):
    """Expression without a slide: the use of it."""
    draw_sections(section_run, section_set.expression, section_set.cohort, tmp_path / "out", n=1, split="validation")
    with Image.open(tmp_path / "out/S3.png") as picture:
        assert picture.size == (9 * 32, 20 + 8 * 32) and "Left" not in picture.text["Description"]
    assert "haematoxylin_real" not in pd.read_csv(tmp_path / "out/measures.csv")
    draw_sections(section_run, section_set.expression, section_set.cohort, tmp_path / "out", n=1, split="test")
    assert not (tmp_path / "out/S3.png").exists() and list(read_json(tmp_path / "out/mosaic.json")["pictures"]) == [
        "S4"
    ]


def test_a_gap_between_spots_is_glass():
    positions = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [4.0, 2.0], [10.0, 2.0]])
    picture = section_picture(positions, np.zeros((5, 4, 4, 3), np.uint8))
    assert picture.shape == (8, 24, 3) and (picture == 244).all(axis=2).sum() == 8 * 24 - 5 * 16


def test_what_cannot_be_drawn_is_said(section_set, section_run, tmp_path):
    cohort = pd.read_csv(section_set.cohort, dtype=str, keep_default_na=False)
    cohort.drop(columns="y").to_csv(tmp_path / "without.csv", index=False)
    with pytest.raises(ValueError, match="has no column y"):
        draw_sections(section_run, section_set.expression, tmp_path / "without.csv", tmp_path / "out")
    cohort.assign(slide="").to_csv(tmp_path / "nowhere.csv", index=False)
    with pytest.raises(ValueError, match="has a section and a position for none of the chosen profiles"):
        draw_sections(section_run, section_set.expression, tmp_path / "nowhere.csv", tmp_path / "out")
    shutil.copy(section_set.cohort, tmp_path / "copy.csv")
    with pytest.raises(ValueError, match="holds other files"):
        draw_sections(section_run, section_set.expression, section_set.cohort, tmp_path, split="test")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--mosaic", "--mosaic needs --cohort"),
        ("--cohort c.csv", "are for --mosaic"),
        ("--mosaic --cohort {cohort} --split test --n 1 --device cpu", ""),
    ],
)
def test_the_command(section_set, section_run, tmp_path, given, said):
    words = ["--model", str(section_run), "--profiles", str(section_set.expression), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*words, *given.format(cohort=section_set.cohort).split()])
    assert said in result.output and (result.exit_code == 0) == (not said) == (tmp_path / "out/S4.png").exists()
