import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from rnagan.config.gan import GANConfig
from rnagan.data.sampler import TileOrder, WeightedOrder
from rnagan.data.selection import make_order, measure_mixing, read_weights, select


@pytest.fixture
def shards(make_shards):
    return make_shards({"s1": 5, "s2": 2, "s3": 0, "s4": 3, "s5": 4, "s6": 1})


def cohort(*rows):
    table = pd.DataFrame(rows, columns=["sample", "slide", "split"])
    return table.assign(donor=table["sample"].str[0], tissue="lung", site="")


COHORT = cohort(
    ("a1", "s4", "train"),
    ("b1", "s1", "train"),
    ("c1", "s2", "validation"),
    ("d1", "s3", "train"),
    ("e1", "gone", "train"),
    ("f1", "", "train"),
    ("g1", "s6", "test"),
)


def test_slides_of_a_split_with_their_profiles(shards):
    chosen = select(shards, COHORT, "train", tiles_per_slide=4)
    assert chosen.table[["slide", "sample"]].values.tolist() == [["s1", "b1"], ["s4", "a1"]]
    assert chosen.table.index.tolist() == [0, 1]  # rows are what the loader's slide numbers count
    assert chosen.counts.tolist() == [4, 3] and chosen.counts.dtype == "int64"
    assert select(shards, COHORT, "validation", 600).counts.tolist() == [2]


def test_what_is_left_out_is_listed(shards):
    assert select(shards, COHORT, "train", 4).left_out == {
        "slides that the selection doesn't want": [],
        "slides in the cohort table without shards": ["gone"],
        "slides without tiles": ["s3"],
        "samples beyond the first of a slide": [],
        "shards without a row in the cohort table": ["s5"],
    }


def test_a_slide_of_two_samples_counts_once(shards):
    chosen = select(shards, cohort(("z1", "s1", "train"), ("z2", "s1", "train")), "train", 600)
    assert chosen.table["sample"].tolist() == ["z1"] and chosen.counts.tolist() == [5]
    assert chosen.left_out["samples beyond the first of a slide"] == ["z2"]


def test_the_selection_does_not_depend_on_the_order_of_rows(shards):
    again = select(shards, COHORT.iloc[::-1], "train", 4)
    pd.testing.assert_frame_equal(again.table, select(shards, COHORT, "train", 4).table)


@pytest.mark.parametrize("split", ["test", "other"])
def test_a_split_without_tiles_is_refused(shards, split):
    with pytest.raises(ValueError, match=f"No slide of split {split} has tiles in .*shards; is it the cohort table of"):
        select(shards, COHORT[COHORT["slide"] != "s6"], split, 600)


def test_rows_are_chosen_by_any_column(shards):
    table = COHORT.assign(tissue=["lung", "colon", "lung", "lung", "lung", "lung", "lung"])
    chosen = select(shards, table, "train", 600, where="tissue=colon")
    assert chosen.table["slide"].tolist() == ["s1"]
    assert chosen.left_out["slides that the selection doesn't want"] == ["s4", "s3", "gone"]
    assert chosen.left_out["shards without a row in the cohort table"] == ["s5"]
    # a tissue that another split has is no mistake, but here there is nothing of it
    with pytest.raises(ValueError, match=r"No slide of split validation where tissue=colon has tiles in"):
        select(shards, table, "validation", 600, where="tissue=colon")


@pytest.fixture
def both(shards):
    table = COHORT.assign(tissue=["lung", "colon", *["lung"] * 5])
    return select(shards, table, "train", 600)  # s1 colon, 5 tiles; s4 lung, 3 tiles


def test_weights_of_tissues(both, tmp_path):
    assert read_weights("natural", both) is None
    assert read_weights("balanced", both) == {"colon": 1, "lung": 1}
    assert read_weights("lung=2, colon=0.5", both) == {"colon": 0.5, "lung": 2}
    for name, separator in (("w.csv", ","), ("w.tsv", "\t")):
        (tmp_path / name).write_text(f"tissue{separator}weight\nlung{separator}0\ncolon{separator}3\n")
        assert read_weights(str(tmp_path / name), both) == {"colon": 3, "lung": 0}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lung=1", "has no weight of colon; the selection holds colon, lung"),
        ("lung=1,colon=1,liver=2", "has a weight of liver"),
        ("lung=1,colon=-1", "the weight of colon must be a number from 0 up, not '-1'"),
        ("lung=1,colon=nan", "must be a number from 0 up"),
        ("lung=1,colon=", "must be a number from 0 up, not ''"),
        ("lung=0,colon=0", "leaves no tissue"),
        ("lung=1,colon=1,lung=2", "names a tissue twice"),
        ("balance", "The table balance does not exist"),
    ],
)
def test_weights_that_mean_nothing_are_refused(both, text, problem):
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        read_weights(text, both)


def test_order_of_a_selection(both):
    plain, weighted = make_order(both, 0, 8), make_order(both, 0, 8, tissue_weights="lung=3,colon=1")
    assert (np.bincount(plain.locate(0, 8)[:, 0]) == [5, 3]).all()
    assert (np.bincount(weighted.locate(0, 10_000)[:, 0]) == [2500, 7500]).all()
    by_slide = make_order(both, 0, 8, "by_slide").locate(0, 8)[:, 0]
    assert (np.diff(by_slide) != 0).sum() == 1
    with pytest.raises(ValueError, match="Tissue weights need tile_order mixed"):
        make_order(both, 0, 8, "by_slide", "lung=1,colon=1")


ROOT = Path(__file__).parents[2]


def drawn(share, batch_size):
    """Mean number of different donors in batches of independent draws, by drawing."""
    batches = np.random.default_rng(0).choice(len(share), (40_000, batch_size), p=share)
    return np.mean([len(set(batch)) for batch in batches.tolist()])


def test_expected_number_is_that_of_draws():
    counts, donors = [10, 30, 5, 5, 50], pd.Series(["a", "a", "b", "c", "d"])
    found = measure_mixing(TileOrder(counts, 0), donors, 8)
    assert found.expected == pytest.approx(drawn([0.4, 0.05, 0.05, 0.5], 8), rel=0.01)
    weights = {"x": 3, "y": 1}
    found = measure_mixing(WeightedOrder(counts, list("xxyyy"), weights, 0), donors, 8)
    assert found.expected == pytest.approx(drawn([0.75, 0.25 / 12, 0.25 / 12, 0.25 * 10 / 12], 8), rel=0.01)


def test_different_donors_are_counted():
    order, donors = TileOrder([4] * 6, 0, by_slide=True), pd.Series(list("aabbcc"))
    found = measure_mixing(order, donors, 4)
    assert (found.batches, found.mean, found.least) == (6, 1.0, 1)
    assert found.share == pytest.approx(1 / drawn([1 / 3] * 3, 4), rel=0.01)


@pytest.mark.parametrize(
    ("slides", "donors", "batch_size"),
    [
        (1718, 900, 64),
        (1718, 900, 512),
        (1025, 1025, 512),
        (25_000, 948, 64),
        (300, 300, 128),
        (300, 300, 256),
        (40, 20, 64),
    ],
)
def test_default_window_mixes_donors_as_draws_do(slides, donors, batch_size):
    draw = np.random.default_rng(1)
    counts = draw.integers(50, 601, slides)
    order = TileOrder(counts, 0, GANConfig().window_slides)
    found = measure_mixing(order, pd.Series(draw.integers(0, donors, slides)), batch_size, most_batches=300)
    assert found.share >= 0.95 and found.least >= 0.75 * found.expected  # also at the end of the epoch


def test_a_small_window_is_seen():
    found = measure_mixing(TileOrder([50] * 500, 0, window=32), pd.Series(range(500)), 128)
    assert found.share < 0.35 and found.mean <= 64


def test_script(inputs):
    main = runpy.run_path(str(ROOT / "shards/check_shards.py"))["main"]

    def run(*options):
        return CliRunner().invoke(main, [str(inputs.shards), "--mixing", "--cohort", str(inputs.cohort), *options])

    said = run("--batch-size", "4")
    assert said.exit_code == 0, said.output
    assert "10 training slides, 39 tiles, 1,024 slides open: batches of 4 hold " in said.output
    assert "independent draws would hold 2.9" in said.output  # of five donors with two slides each, nearly alike
    assert "Let more slides be open: --window-slides." in run("--batch-size", "8", "--window-slides", "2").output
    assert "5 training slides" in run("--where", "tissue=lung").output
    assert run("--tissue-weights", "balanced").exit_code == 0
    bad = run("--where", "tissue=liver")
    assert bad.exit_code == 1 and "no row has tissue 'liver'; there are cortex, lung" in bad.output
    for options in (["--mixing"], ["--cohort", "c.csv"], ["--batch-size", "4"]):
        refused = CliRunner().invoke(main, [str(inputs.shards), *options])
        assert refused.exit_code == 2 and "--mixing needs --cohort" in refused.output
