import numpy as np
import pandas as pd
import pytest

from rnagan.cohort.table import read_cohort
from rnagan.data.index import open_dataset
from rnagan.evaluation import tile_measurements
from rnagan.evaluation.morphology import MEASURES, measure
from rnagan.evaluation.real_tiles import real_tiles
from rnagan.evaluation.tile_networks import TissueClassifier, train_condition_regressor
from rnagan.training.tile_inputs import TileInputs


@pytest.fixture(scope="module")
def classifier(inputs: TileInputs) -> TissueClassifier:
    cohort = read_cohort(inputs.cohort)
    train = cohort[(cohort["slide"] != "") & (cohort["split"] == "train")]
    return tile_measurements.train_classifier(open_dataset(inputs.shards), train, 32, 0)


@pytest.mark.slow
@pytest.mark.guard
def test_tissue_is_known_and_so_is_its_confusion(inputs: TileInputs, classifier: TissueClassifier) -> None:
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    pictured = cohort[cohort["slide"] != ""]
    real = dict(real_tiles(shards, pictured[pictured["split"] == "test"], 3, 32))
    tissue_of = cohort.set_index("sample")["tissue"]
    swapped = {name: real[name.replace("lung", "x").replace("cortex", "lung").replace("x", "cortex")] for name in real}
    eyes = tile_measurements.TileMeasurer(classifier, None, None)
    for tiles, share in ((real, 1.0), (swapped, 0.0)):
        seen = eyes.measure(tiles.items(), tissue_of)
        assert seen.right.index.tolist() == list(real) and (seen.right == share).all()
        assert seen.called_right(tissue_of) == {"cortex": share, "lung": share}
        assert seen.measures.empty and seen.read is None and seen.shown == {}


@pytest.mark.slow
def test_measures_halves_and_readings_are_means_over_a_samples_tiles(classifier: TissueClassifier) -> None:
    draw = np.random.default_rng(0)
    tiles = {"a": draw.integers(60, 255, (5, 32, 32, 3), np.uint8), "b": draw.integers(0, 99, (1, 32, 32, 3), np.uint8)}
    network = train_condition_regressor(
        list(tiles.values()), np.eye(2, 3, dtype=np.float32), [tiles["a"]], np.zeros((1, 3)), steps=1
    )
    eyes = tile_measurements.TileMeasurer(classifier, network, 1.0)
    seen = eyes.measure(tiles.items(), pd.Series({"a": "lung", "b": "lung"}), keep=["b"])
    for name in MEASURES:
        each = measure(tiles["a"], 1.0)[name]
        assert seen.measures.loc["a", name] == pytest.approx(each.mean())
        assert seen.halves[0].loc["a", name] == pytest.approx(each[[0, 2, 4]].mean())
        assert seen.halves[1].loc["a", name] == pytest.approx(each[[1, 3]].mean())
    assert seen.halves[1].loc["b"].isna().all()  # one tile has no other half
    assert seen.read is not None and seen.read.shape == (2, 3)
    np.testing.assert_allclose(seen.read.loc["a"], network.read(tiles["a"]), rtol=1e-6)
    np.testing.assert_array_equal(seen.shown["b"], tiles["b"])


def test_large_tiles_are_read_at_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    monkeypatch.setattr(tile_measurements, "READER_PX", 16)
    small = tile_measurements._for_reader(tiles)
    np.testing.assert_array_equal(small[1, 0, 0], tiles[1, :2, :2].mean(axis=(0, 1)).round())
    monkeypatch.setattr(tile_measurements, "READER_PX", 32)
    assert tile_measurements._for_reader(tiles) is tiles
