import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from rnagan.config.gan import GANConfig
from rnagan.data.sampler import TileOrder, WeightedOrder
from rnagan.data.selection import measure_mixing

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
