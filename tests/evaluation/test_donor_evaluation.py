from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.data.index import open_dataset
from rnagan.evaluation import donor_evaluation, real_tiles, test_set
from rnagan.evaluation.morphology import MEASURES
from rnagan.expression.h5ad import read_expression
from rnagan.training.tile_inputs import TileInputs

DONORS = 12


def truth_table() -> pd.DataFrame:
    """Two tissues of twelve donors from two centres; cortex has no air."""
    draw = np.random.default_rng(3)
    table = pd.DataFrame(
        draw.normal(size=(2 * DONORS, len(MEASURES))),
        columns=list(MEASURES),
        index=[f"{tissue}{k}" for tissue in ("cortex", "lung") for k in range(DONORS)],
    )
    table["tissue"] = np.repeat(["cortex", "lung"], DONORS)
    table["donor"] = [f"D{k}" for k in range(DONORS)] * 2
    table["site"] = np.tile(["a", "b"], DONORS)
    table.loc[table["tissue"] == "cortex", "air_fraction"] = np.nan
    return table


def test_correlation_is_within_tissue_signed_and_has_its_slope() -> None:
    truth = truth_table()
    generated = truth[list(MEASURES)].fillna(0.0)
    generated["nuclear_density"] = 5 - 2 * generated["nuclear_density"] + 100 * (truth["tissue"] == "lung")
    real = generated.iloc[[0, 3, 5, 7, 13, 17, 19]] * -1
    result = donor_evaluation.faithfulness(truth, generated, real)
    assert set(result["cortex"]) == set(MEASURES) - {"air_fraction"} and set(result["lung"]) == set(MEASURES)
    for tissue, pictured in (("cortex", 4), ("lung", 3)):
        found = result[tissue]["nuclear_density"]
        assert found["r"] == pytest.approx(-1) and found["slope"] == pytest.approx(-2)
        assert found["ceiling"] == pytest.approx(1) and found["ceiling_donors"] == pictured
        assert found["donors"] == DONORS and found["p"] < 0.01
        assert set(found) == {"r", "slope", "low", "high", "p", "donors", "ceiling", "ceiling_donors"}


def test_donors_count_once_and_few_are_left_out() -> None:
    truth = truth_table()
    generated = truth[list(MEASURES)].fillna(0.0)
    twice = pd.concat([truth, truth[truth["tissue"] == "lung"].rename(lambda name: name + "b")])
    generated_twice = generated.reindex([name.removesuffix("b") for name in twice.index]).set_axis(twice.index)
    once = donor_evaluation.faithfulness(truth, generated, generated)
    assert donor_evaluation.faithfulness(twice, generated_twice, generated_twice) == once
    few = generated.iloc[: DONORS + 2]
    assert set(donor_evaluation.faithfulness(truth, few, few)) == {"cortex"}


def test_ceiling_without_variation_is_zero() -> None:
    truth = truth_table()
    generated = truth[list(MEASURES)].fillna(0.0)
    found = donor_evaluation.faithfulness(truth, generated, generated.assign(site_stain=1.0))
    assert found["lung"]["site_stain"]["ceiling"] == 0.0


def test_a_mere_difference_between_tissues_or_centres_is_nothing() -> None:
    truth = truth_table()
    noise = pd.DataFrame(np.random.default_rng(4).normal(size=(2 * DONORS, len(MEASURES))), truth.index, list(MEASURES))
    common = 10 * (truth["tissue"] == "lung") + 5 * (truth["site"] == "b")
    truth["nuclear_density"] = common + noise["air_fraction"] / 9
    noise["nuclear_density"] = common + noise["site_stain"] / 9
    pooled = np.corrcoef(truth["nuclear_density"], noise["nuclear_density"])[0, 1]
    found = donor_evaluation.faithfulness(truth, noise, noise)["lung"]["nuclear_density"]
    assert pooled > 0.99 and found["r"] > 0.99  # the centre alone makes it
    assert found["p"] > 0.1  # and the test within centres sees through it


def test_real_tiles_of_a_sample_come_evenly_from_its_slides(inputs: TileInputs) -> None:
    shards = open_dataset(inputs.shards)
    rows = pd.DataFrame({"sample": ["s", "s", "t"], "slide": ["D0-cortex-slide", "D0-lung-slide", "D1-cortex-slide"]})
    tiles = dict(real_tiles.real_tiles(shards, rows, 3, 32))
    assert {name: own.shape for name, own in tiles.items()} == {"s": (3, 32, 32, 3), "t": (3, 32, 32, 3)}
    own = real_tiles.read_tiles(shards, pd.DataFrame({"slide": ["D0-cortex-slide", "D0-lung-slide"]}), 2, 32)
    np.testing.assert_array_equal(tiles["s"], np.concatenate(own)[:3])
    assert real_tiles.read_tiles(shards, pd.DataFrame({"slide": ["D0-lung-slide"]}), 99, 16)[0].shape == (
        4,
        16,
        16,
        3,
    )  # all it has


def test_shrinking_averages_blocks() -> None:
    tiles = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
    means = tiles[0, :2, 2:].mean(axis=(0, 1)).round().tolist()
    assert real_tiles.at_resolution(tiles, 2)[0, 0, 1].tolist() == means
    assert real_tiles.at_resolution(tiles, 4) is tiles


def test_generated_tiles_are_those_of_generate(trained: Path, inputs: TileInputs) -> None:
    paths = test_set.EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)
    held_out = test_set.open_evaluation_set(paths, "test")
    model, expression = held_out.model, read_expression(inputs.expression)
    generated = dict(held_out.generated_of(model, pd.Index(["D9-lung", "D0-cortex"]), 2, seed=4))
    row = expression.obs.index.get_loc("D9-lung")
    latent = model.latents(expression.values[row : row + 1], expression.genes, "tpm")[0]
    np.testing.assert_array_equal(generated["D9-lung"], model.generate_tiles(latent, 2, 4, "D9-lung"))
    assert list(generated) == ["D9-lung", "D0-cortex"]


@pytest.mark.slow
def test_against_real_tiles_the_ceiling_is_how_well_these_agree() -> None:
    """Tiles are the donor's mean and noise of the same variance; of k tiles the reliability is k / (k + 1)."""
    draw, donors, k = np.random.default_rng(0), 2000, 6
    about = pd.DataFrame({"donor": np.arange(donors).astype(str), "tissue": "lung", "site": "a"})
    own = draw.normal(size=(donors, 1, len(MEASURES)))
    tiles = own + draw.normal(size=(donors, k, len(MEASURES)))
    real, even, odd, generated = (
        pd.DataFrame(values, columns=list(MEASURES))
        for values in (tiles.mean(axis=1), tiles[:, ::2].mean(axis=1), tiles[:, 1::2].mean(axis=1), own[:, 0] * 2)
    )
    found = donor_evaluation.on_real_tiles(about, generated, real, (even, odd))["lung"]["nuclear_density"]
    assert found["ceiling"] == pytest.approx((k / (k + 1)) ** 0.5, abs=0.01) and found["ceiling_donors"] == donors
    assert found["r"] == pytest.approx(found["ceiling"], abs=0.02)  # the generated tiles know each donor's mean
    assert found["slope"] == pytest.approx(2 * k / (k + 1), rel=0.03)  # measured on real tiles, which are noisy
    # known wrong: the correlation of halves, which is that of half as many tiles
    assert np.corrcoef(even["air_fraction"], odd["air_fraction"])[0, 1] < found["ceiling"] - 0.1
    single = donor_evaluation.on_real_tiles(about, generated, real, (real, real * np.nan))["lung"]["nuclear_density"]
    assert single["ceiling"] is None
