import dataclasses
import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import gaussian_filter

from rnagan.evaluation.features import FeatureExtractor, offline_extractor
from rnagan.evaluation.memorization import (
    SYMMETRIES,
    closeness,
    copy_test,
    find_copies,
    nearest,
    nearest_tiles,
    symmetry,
    undone,
)
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet
from rnagan.training.tile_inputs import TileInputs
from tests.evaluation.pixels import Pixels

TOOL = Path(__file__).parents[2] / "tools/nearest_tiles.py"


@pytest.fixture
def extractor() -> FeatureExtractor:
    return Pixels()


def tissue(count: int, seed: int) -> np.ndarray:
    """Coloured blobs, each tile of its own coarseness."""
    draw = np.random.default_rng(seed)
    noise = draw.normal(size=(count, 32, 32, 3))
    tiles = np.stack([gaussian_filter(x, (s, s, 0)) * s for x, s in zip(noise, draw.uniform(1, 4, count), strict=True)])
    return np.clip(150 + 120 * tiles, 0, 255).astype(np.uint8)


def test_symmetries_are_eight_and_can_be_undone() -> None:
    tile = np.arange(3 * 3 * 3, dtype=np.uint8).reshape(1, 3, 3, 3)
    all_of_them = [symmetry(tile, g) for g in range(SYMMETRIES)]
    assert len({x.tobytes() for x in all_of_them}) == SYMMETRIES
    for g, turned in enumerate(all_of_them):
        np.testing.assert_array_equal(undone(turned, g), tile)
        np.testing.assert_array_equal(turned[:, 1, 1], tile[:, 1, 1])


def test_planted_copies_are_found_whichever_way_they_are_turned(extractor: FeatureExtractor) -> None:
    training, held_out = tissue(150, 0), tissue(100, 1)
    draw = np.random.default_rng(2)
    rows, turns = draw.permutation(150)[:16], np.arange(16) % SYMMETRIES
    copies = np.concatenate([symmetry(training[[row]], int(g)) for row, g in zip(rows, turns, strict=True)])
    copies = np.clip(copies + draw.normal(0, 2, copies.shape), 0, 255).astype(np.uint8)
    features = extractor(training)
    found, of_real = nearest(copies, features, extractor), nearest(held_out, features, extractor)
    np.testing.assert_array_equal(found.rows[:, 0], rows)
    for k, (row, g) in enumerate(zip(found.rows[:, 0], found.symmetries[:, 0], strict=True)):
        np.testing.assert_allclose(symmetry(copies[[k]], g)[0], training[row], atol=12)
    test = copy_test(found.distances[:, 0], of_real.distances[:, 0])
    assert test.share > 0.9 and test.ratio < 0.5
    assert np.all(np.diff(found.distances, axis=1) >= 0) and found.distances.shape == (16, 4)
    upright = np.linalg.norm(extractor(copies)[:, None] - features[None], axis=2)  # the wrong variant: not turned
    assert np.mean(upright.min(axis=1) < test.threshold) < test.share


def test_nothing_is_found_where_nothing_is_copied(extractor: FeatureExtractor) -> None:
    features = extractor(tissue(150, 0))
    new, held_out = (nearest(tissue(300, seed), features, extractor).distances[:, 0] for seed in (3, 1))
    test = copy_test(new, held_out)
    assert test.share <= 0.05 and test.ratio == pytest.approx(1, abs=0.2)
    assert (test.generated, test.held_out, test.expected) == (300, 300, 0.01)


def test_copies_are_named_and_near_tissue_is_not(extractor: FeatureExtractor) -> None:
    """Also among tiles that lie nearer to training tiles than held-out ones do, as smooth ones would."""
    training, held_out, new = tissue(100, 0), tissue(100, 1), tissue(100, 2)
    training = np.concatenate([training, np.roll(training, 1, axis=2)])  # a donor's two tiles are much alike
    smooth = np.clip(0.8 * new + 0.2 * training.mean(axis=0), 0, 255).astype(np.uint8)
    features, donors = extractor(training), np.arange(200) % 100
    draw = np.random.default_rng(3)
    noisy = np.clip(symmetry(training[[7, 70, 170]], 6) + draw.normal(0, 3, (3, 32, 32, 3)), 0, 255).astype(np.uint8)
    of_real = closeness(nearest(held_out, features, extractor), features, donors)
    assert 0.7 < np.median(of_real) < 1.4
    for tiles, planted in ((np.concatenate([smooth, noisy]), [100, 101, 102]), (smooth, []), (new, [])):
        found = nearest(tiles, features, extractor)
        copies = find_copies(closeness(found, features, donors), of_real)
        assert sorted(copies.rows) == planted
        if planted:
            assert sorted(found.rows[copies.rows, 0]) == [7, 70, 170] and copies.p[copies.rows].max() < 1e-4
    unaware = closeness(nearest(held_out, features, extractor), features, np.arange(200))  # the wrong variant
    assert np.median(unaware) > 2 * np.median(of_real)  # a donor's own tiles say nothing of new tissue


def test_new_tissue_is_called_a_copy_as_seldom_as_promised() -> None:
    draw = np.random.default_rng(0)
    wrong = [len(find_copies(*np.exp(draw.normal(0, 0.2, (2, 100)))).rows) > 0 for _ in range(500)]
    assert np.mean(wrong) <= 0.02
    with pytest.raises(ValueError, match="can't be separated from new tissue by 2 held-out tiles; 3 at least"):
        find_copies(np.ones(5), np.ones(2))


def test_offline_extractor_knows_a_turned_copy() -> None:
    extractor, training = offline_extractor(), tissue(6, 0)
    found = nearest(symmetry(training[[2]], 5), extractor(training), extractor)
    assert found.rows[0, 0] == 2 and found.distances[0, 0] < 0.01 < 0.2 * found.distances[0, 1]
    assert found.symmetries[0, 0] == 5  # a mirrored turn undoes itself


def test_distance_is_euclidean(extractor: FeatureExtractor) -> None:
    tiles, training = tissue(3, 0), extractor(tissue(5, 1))
    turned = np.stack([extractor(symmetry(tiles, g)) for g in range(SYMMETRIES)])
    expected = np.linalg.norm(turned[:, :, None] - training[None, None], axis=3).min(axis=0)
    found = nearest(tiles, training, extractor, k=9)
    assert found.rows.shape == (3, 5)
    np.testing.assert_allclose(np.take_along_axis(expected, found.rows, axis=1), found.distances, rtol=1e-4)
    np.testing.assert_array_equal(found.rows, expected.argsort(axis=1))


def test_share_of_equal_distributions_is_one_in_a_hundred() -> None:
    draw = np.random.default_rng(0)
    assert copy_test(*draw.normal(10, 1, (2, 20_000))).share == pytest.approx(0.01, abs=0.003)
    assert copy_test(draw.normal(8, 1, 1000), draw.normal(10, 1, 1000)).share > 0.2


def test_script_on_a_model_and_on_one_that_copies(
    trained: Path, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = runpy.run_path(str(TOOL))["main"]
    options = [f"--model={trained}", f"--shards={inputs.shards}", f"--cohort={inputs.cohort}"]
    options += [f"--expression={inputs.expression}", "--tiles=4", f"--out={tmp_path}"]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    assert "of 4 generated tiles are nearer to one of 39 training tiles than 99% of real tiles" in done.output
    found = json.loads((tmp_path / "nearest.json").read_text())
    assert found["copies"] == [] and "0 of them are called copies." in done.output
    assert found["of_training_tiles"] == 39 and found["held_out"] == 4 and found["extractor"] == "efficientnet_lite0"
    assert found["extractor_in_training"] is False
    assert "Distances are those of efficientnet_lite0, a witness." in done.output
    with Image.open(tmp_path / "nearest.png") as picture:
        assert picture.text["Synthetic"] == "true" and np.asarray(picture).std() > 0

    paths = EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)
    real = EvaluationSet.real

    def copies(held_out: EvaluationSet, *_: object) -> Iterator:
        train = held_out.rows.assign(slide=[f"D{k % 5}-lung-slide" for k in range(len(held_out.rows))])
        return (tiles[:, ::-1] for tiles in real(dataclasses.replace(held_out, rows=train)))

    monkeypatch.setattr(EvaluationSet, "generated", copies)
    found = nearest_tiles(paths, tmp_path / "copies", tiles=10, extractor=Pixels())
    assert found["share"] == 1 and len(found["copies"]) == found["generated"]
    assert found["copies"][0]["training"].split("-lung-slide/")[0] in {f"D{k}" for k in range(5)}
