"""Cohort tables of spots: what goes with what, what is held out, and what the table says of it."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.spatial.distance import cdist

from rnagan.cohort.spots import SpotOptions, make_spot_cohort, positions_of
from rnagan.cohort.table import check_cohort, read_cohort, split_by
from rnagan.commands.build_cohort import main

SIDE = 12  # spots of a section's longer side; the shorter has 5


@pytest.fixture
def table(tmp_path):
    """Two donors, of two and three sections; spots lie 200 apart, and sections are longer in y."""
    rows = [
        {"path": f"{n}.png", "tissue": "breast", "who": section[0], "section": section, "spot": f"{section}_{x}x{y}",
         "px": 200 * x, "py": 200 * y}
        for section in ("A1", "A2", "B1", "B2", "B3")
        for n, (x, y) in enumerate(np.ndindex(5, SIDE))
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "tiles.csv", index=False)
    return tmp_path / "tiles.csv"


def make(table, out, **settings):
    return make_spot_cohort(table, out, SpotOptions("spot", "section", "who", **settings))


def test_a_row_a_spot_split_by_donor(table, tmp_path):
    lines = make(table, tmp_path / "c.csv")
    cohort = read_cohort(tmp_path / "c.csv")
    assert len(cohort) == 5 * 5 * SIDE and split_by(cohort) == "donor"
    row = cohort.set_index("sample").loc["B2_3x7"]
    assert (row["slide"], row["donor"], row["tissue"]) == ("B2", "B", "breast")
    assert cohort.groupby("donor")["split"].nunique().max() == 1
    assert any("No spot is in split" in line and "--split-by section" in line for line in lines)
    assert make(table, tmp_path / "c.csv")[-1].endswith("is up to date.")


def test_by_section(table, tmp_path):
    lines = make(table, tmp_path / "c.csv", split_by="section")
    cohort = read_cohort(tmp_path / "c.csv")
    assert cohort.groupby("slide")["split"].nunique().max() == 1 and cohort["split"].nunique() == 3
    assert split_by(cohort) == "section" and any("not for other people" in line for line in lines)
    assert "3 train, 1 validation, 1 test" in lines[-1] and "sections by split" in lines[-1]
    with pytest.raises(ValueError, match="has a donor in two splits"):
        check_cohort(cohort.drop(columns="split_by"))
    with pytest.raises(ValueError, match="would move spots between splits"):
        make(table, tmp_path / "c.csv")


@pytest.mark.parametrize("settings", [{}, {"split_by": "section"}, {"split_by": "block", "gap": 250.0}])
def test_positions_stay_with_their_spots(table, tmp_path, settings):
    make(table, tmp_path / "c.csv", x="px", y="py", **settings)
    cohort = read_cohort(tmp_path / "c.csv")
    spots = pd.read_csv(table).set_index("spot").loc[cohort["sample"]]
    assert np.array_equal(positions_of(cohort, "c.csv"), spots[["px", "py"]])
    make(table, tmp_path / "plain.csv")
    assert "x" not in read_cohort(tmp_path / "plain.csv")


@pytest.mark.parametrize("gap", [250.0, 450.0])
def test_blocks_are_a_gap_apart(table, tmp_path, gap):
    lines = make(table, tmp_path / "c.csv", split_by="block", x="px", y="py", gap=gap)
    cohort = read_cohort(tmp_path / "c.csv")
    spots = pd.read_csv(table).set_index("spot")
    left = len(spots) - len(cohort)
    assert left > 0 and any(f"{left:,} spots left out: nearer than {gap:g} (px, py)" in line for line in lines)
    for slide, rows in cohort.groupby("slide"):
        assert set(rows["split"]) == {"train", "validation", "test"}
        at = spots.loc[rows["sample"], ["px", "py"]].to_numpy()
        apart = rows["split"].to_numpy()[:, None] != rows["split"].to_numpy()
        assert cdist(at, at)[apart].min() >= gap, slide
        py = spots.loc[rows["sample"], "py"].to_numpy()
        of_split = [py[(rows["split"] == split).to_numpy()] for split in ("train", "validation", "test")]
        assert len({tuple(sorted(set(own))) for own in of_split}) == 3  # bands across the longer side
        assert not set(of_split[0]) & set(of_split[2])
    assert (cohort["split"] == "train").mean() > 0.5
    ends = [spots.loc[rows.loc[rows["split"] == "train", "sample"], "py"].min() for _, rows in cohort.groupby("slide")]
    assert len(set(ends)) > 1  # not always the same end


def test_only_spots_with_expression(table, tmp_path):
    pd.DataFrame({"spot": ["A1_0x0", "B1_1x1"], "G1": [1, 2], "G2": [3, 4]}).to_csv(tmp_path / "e.csv", index=False)
    lines = make(table, tmp_path / "c.csv", all_in="test", expression=tmp_path / "e.csv", rows="samples")
    assert read_cohort(tmp_path / "c.csv")["sample"].tolist() == ["A1_0x0", "B1_1x1"]
    assert any(line.startswith("298 spots left out: not in") for line in lines)


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        ({"spot": "A1_0x0"}, {}, "has profiles twice in spot .A1_0x0.*SECTION_SPOT"),
        ({"who": "C"}, {}, "has sections of several donors .A2"),
        ({"spot": ""}, {}, "line 62: the column spot is empty"),
        ({"px": "left"}, {"split_by": "block", "x": "px", "y": "py", "gap": 1.0}, "px, py.: spot A2_0x0 has no pos"),
        ({"py": "nan"}, {"x": "px", "y": "py"}, "px, py.: spot A2_0x0 has no pos"),
        ({}, {"split_by": "block", "x": "px", "y": "py", "gap": 5000.0}, "away from the other splits; give a smaller"),
    ],
)
def test_what_cannot_be_is_said(table, tmp_path, change, settings, said):
    rows = pd.read_csv(table, dtype=str)
    for column, value in change.items():
        rows.loc[60, column] = value  # the first spot of A2
    rows.to_csv(table, index=False)
    with pytest.raises(ValueError, match=said):
        make(table, tmp_path / "c.csv", **settings)
    assert not (tmp_path / "c.csv").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split_by": "block"}, "needs --x-column, --y-column and --gap"),
        ({"gap": 3.0}, "--gap is for --split-by block"),
        ({"x": "px"}, "give both, or neither"),
        ({"split_by": "block", "x": "px", "y": "py", "gap": -1.0}, "must be a distance above 0"),
        ({"split_by": "section", "all_in": "test"}, "leave out --split-by section"),
        ({"split_by": "sample"}, "must be donor or section or block"),
    ],
)
def test_settings_that_contradict(settings, said):
    with pytest.raises(ValueError, match=said):
        SpotOptions("spot", "section", **settings)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--profile-column spot", "--profile-column needs --section-column"),
        ("--section-column section", "are for --profile-column"),
        ("--split-by section", "--split-by section is for a table of spots"),
        ("--profile-column spot --section-column section --pair-by tissue", "leave out --pair-by"),
        ("--profile-column spot --section-column section --extend {table}", "leave out --slides, --subjects or"),
        ("--profile-column spot --section-column section --donor-column who --all-in test", ""),
    ],
)
def test_the_command(table, tmp_path, given, said):
    words = ["--samples", str(table), "--out", str(tmp_path / "c.csv"), *given.format(table=table).split()]
    result = CliRunner().invoke(main, words)
    assert (result.exit_code == 0) == (not said) == (tmp_path / "c.csv").exists()
    assert said in " ".join(result.output.split())
