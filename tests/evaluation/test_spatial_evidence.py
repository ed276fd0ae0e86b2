"""Evidence on spots of sections, from shards to the page."""

import dataclasses
import functools
import math
import sys
import types

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import kstest

from rnagan.api import RNAGAN
from rnagan.evaluation import tile_measurements
from rnagan.evaluation.faithfulness import evaluate, scores_of
from rnagan.evaluation.features import make_extractor
from rnagan.evaluation.handmade import HandmadeStatistics
from rnagan.evaluation.proportions import read_proportions
from rnagan.evaluation.spatial_evidence import has_positions, spatial_evidence
from rnagan.evaluation.spatial_measures import SPATIAL_MEASURES, measure_spots, nuclear_level, own_measures
from rnagan.evaluation.spot_pairs import SpotSettings, evaluate_spots, flat_pairs
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet, open_evaluation_set
from rnagan.evaluation.tile_networks import train_tissue_classifier
from rnagan.reports.console import lines
from rnagan.tracking.run_log import RunLog
from rnagan.training.gan.train import train_gan

ALL = ("S1", "S2", "S3", "S4")


@pytest.fixture(scope="module")
def paths(section_set, section_run):
    return EvaluationInputs(section_run, section_set.shards, section_set.cohort, section_set.expression)


@pytest.fixture(scope="module")
def held_out(paths):
    return open_evaluation_set(paths, "test", need="profiles", device="cpu")


@pytest.fixture(scope="module")
def evidence(held_out):
    return spatial_evidence(held_out, 2, 0, make_extractor("handmade"), ALL)


def test_a_linear_model_stands_beside_and_finds_what_the_profile_drives(evidence):
    assert list(evidence.scores["sections"]) == ["S4"] and evidence.scores["extractor"] == "handmade"
    scores = evidence.scores["sections"]["S4"]
    assert scores["spots"] == 72 and scores["turns"] == 7 and scores["shifts"] > 20
    assert any("allows" in note and "shifts" in note for note in evidence.scores["notes"])  # few spots
    driven, free = scores["measures"]["haematoxylin"], scores["measures"]["eosin"]
    assert driven["ridge"]["r"] > 0.9 and driven["ridge"]["beaten"] == driven["ridge"]["nulls"]
    assert driven["ridge"]["p"] == 1 / (1 + scores["turns"] + scores["shifts"])
    assert abs(free["ridge"]["r"]) < 0.5 and free["ridge"]["p"] > 0.02
    assert driven["nearest_expression"] > 0.7 and 0.2 < driven["nearest_spot"] < 0.95
    assert abs(driven["next_section"]) < 0.6 and driven["next_section_spots"] == 72  # sections have nothing in common
    assert scores["place"]["ridge"]["value"] < 0.36 < scores["place"]["generated"]["value"]
    assert scores["genes"]["haematoxylin"]["genes"] == 30


def test_a_model_that_generates_real_tiles_is_found_faithful(held_out, monkeypatch):
    """As if each spot's generated tiles were its real ones: all that can be reached is reached."""
    real = lambda self, model, samples, n, seed: self.real_of(samples, n)  # noqa: E731
    monkeypatch.setattr(EvaluationSet, "generated_of", real)
    scores = spatial_evidence(held_out, 2, 0, HandmadeStatistics()).scores["sections"]["S4"]
    for name in ("haematoxylin", "eosin", "darkness"):  # no pixel of these tiles is white
        found = scores["measures"][name]
        assert (found["r"], found["slope"], found["beaten"]) == (pytest.approx(1), pytest.approx(1), found["nulls"])
        assert "next_section" not in found
    assert scores["place"]["generated"]["value"] == 0
    agreed = scores["genes"]["haematoxylin"]
    assert (agreed["r"], agreed["signs"]) == (pytest.approx(1), 1) and scores["genes"]["white"]["r"] is None


def test_swapped_positions_lose_the_nulls_but_not_r(held_out, evidence):
    """Positions in an order of chance: r of own tiles stays, and moved maps are no longer alike."""
    cohort = held_out.pictured.copy()
    own = (cohort["slide"] == "S4").to_numpy()
    swapped = cohort.loc[own, ["x", "y"]].to_numpy()[np.random.default_rng(0).permutation(own.sum())]
    cohort.loc[own, ["x", "y"]] = swapped
    other = spatial_evidence(dataclasses.replace(held_out, pictured=cohort), 2, 0, HandmadeStatistics())
    before, after = (found.scores["sections"]["S4"]["measures"]["haematoxylin"] for found in (evidence, other))
    assert after["ridge"]["r"] == pytest.approx(before["ridge"]["r"])
    assert after["nearest_spot"] < before["nearest_spot"] - 0.2


def test_sections_with_few_spots_are_left_out_and_strangers_refused(held_out):
    few = held_out.pictured.drop(held_out.pictured.index[held_out.pictured["slide"] == "S4"][:40])
    found = spatial_evidence(dataclasses.replace(held_out, pictured=few), 1, 0, HandmadeStatistics())
    assert not found.scores["sections"] and "S4 has 32 spots, fewer than 40" in found.scores["notes"][0]
    with pytest.raises(ValueError, match="no section S9 with tiles"):
        spatial_evidence(held_out, 1, 0, HandmadeStatistics(), ("S4", "S9"))


def test_the_page_the_maps_and_the_scores(paths, tmp_path, monkeypatch):
    quick = functools.partial(train_tissue_classifier, steps=20)
    monkeypatch.setattr(tile_measurements, "train_tissue_classifier", quick)
    spots = SpotSettings(ALL, "handmade")
    result = evaluate(paths, tmp_path, n=2, train_donors=0, device="cpu", spots=spots)
    assert result["split_by"] == "section" and any("shifts" in note for note in result["notes"])
    assert result["real_pairs"]["pictures"] == ["spots_S4.png"]
    with Image.open(tmp_path / "spots_S4.png") as picture:
        assert np.asarray(picture).std() > 0
    page = (tmp_path / "faithfulness.html").read_text()
    assert "follow its own RNA" in page and "next section" in page
    said = "\n".join(lines(result))
    assert "S4, 72 spots" in said and "nulls beaten" in said and "Place of the own tile" in said
    scores = scores_of(result)
    assert {"real_pairs/S4/haematoxylin/r", "real_pairs/S4/haematoxylin/ridge", "real_pairs/S4/place"} <= set(scores)
    assert all(math.isfinite(score["value"]) for score in scores.values())


def test_sets_of_one_profile_a_slide_and_tables_without_positions_have_no_such_part(held_out):
    assert has_positions(held_out.shards, held_out.cohort)
    assert not has_positions(held_out.shards, held_out.cohort.drop(columns="x"))


def test_settings_of_spots_are_refused_without_spots(inputs, trained, tmp_path):
    plain = EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)
    with pytest.raises(ValueError, match="are for spots, and .*cohort.csv has no positions"):
        evaluate(plain, tmp_path, n=1, device="cpu", spots=SpotSettings(("S1", "S2")))


def test_measures_follow_what_is_drawn():
    from skimage.color import hed2rgb

    draw = np.random.default_rng(0)

    def tile(haematoxylin, eosin):
        stain = np.clip(np.array([haematoxylin, eosin, 0.0]) + draw.normal(0, 0.002, (64, 64, 3)), 0, None)
        return np.round(255 * hed2rgb(stain)).astype(np.uint8)

    tiles = np.stack([tile(0.05, 0.1), tile(0.2, 0.1), tile(0.05, 0.25), np.full((64, 64, 3), 244, np.uint8)])
    tiles = np.concatenate([tiles, tiles[:1], tiles[:1]])
    for x, y in np.ndindex(4, 4):  # sixteen nuclei, and four
        for k in (4, 5) if x % 2 == y % 2 == 0 else (4,):
            tiles[k, 8 + 14 * y : 13 + 14 * y, 8 + 14 * x : 13 + 14 * x] = tile(0.4, 0.1)[:5, :5]
    found = measure_spots(tiles, 1.5, nuclear_level(tiles[4:5]))
    assert set(found) == set(SPATIAL_MEASURES)
    assert found["haematoxylin"][1] > 2 * found["haematoxylin"][0]
    assert found["eosin"][2] > 1.5 * found["eosin"][0]
    assert found["darkness"].argmin() == 3 and found["white"].argmax() == 3 == found["white"].tolist().index(1)
    counted = found["nuclear_density"] * (64 - 4) ** 2 * 1.5**2 * 1e-6
    assert counted[[4, 5, 0]] == pytest.approx([16, 4, 0], abs=0.1)
    assert np.isnan(measure_spots(tiles, None, 0.1)["nuclear_density"]).all()


def redness(tiles):
    return {"redness": tiles[..., 0].mean((1, 2)) - tiles[..., 1].mean((1, 2))}


def test_measures_of_ones_own(held_out, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    found = spatial_evidence(held_out, 1, 0, HandmadeStatistics(), further=own_measures("mine:redness"))
    assert found.scores["sections"]["S4"]["measures"]["redness"]["ridge"]["r"] > 0.3  # haematoxylin absorbs red
    assert set(found.maps["S4"].generated) == {*SPATIAL_MEASURES, "redness"}


def test_measures_of_the_same_name_stand_beside_deconvolved_proportions(held_out, paths, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    spots = held_out.pictured["sample"]
    real = [float(redness(tiles).pop("redness").mean()) for _, tiles in held_out.real_of(pd.Index(spots), 1)]
    pd.DataFrame({"sample": spots, "redness": real, "fat": 0.5}).to_csv(tmp_path / "cells.csv", index=False)
    settings = SpotSettings(ALL, "handmade", "mine:redness", tmp_path / "cells.csv")
    found = evaluate_spots(held_out, tmp_path, 1, 0, settings)["sections"]
    assert set(found["S4"]["proportions"]) == {"redness"}
    own, measured = found["S4"]["proportions"]["redness"], found["S4"]["measures"]["redness"]
    assert own["real"] == pytest.approx(1) and own["r"] == pytest.approx(measured["r"]) and own["p"] == measured["p"]
    assert flat_pairs(found)["real_pairs/S4/redness/proportion"]["value"] == own["r"]
    assert len(settings.protocol()["proportions"]) == 64
    result = {"tissue_accuracy": 1.0, "tissue_accuracy_real": None, "notes": [], "real_pairs": {"sections": found}}
    assert "proportion by deconvolution" in "\n".join(lines(result))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spot,tumour\nS4_0x0,1\n", "must have a column sample .* it has spot, tumour"),
        ("sample,tumour\nS4_0x0,1\nS4_0x0,1\n", "has the spot S4_0x0 twice"),
        ("sample,tumour\nS4_0x0,much\n", "has no number in column tumour of spot S4_0x0"),
        ("sample,tumour\nS4_0x0,1\n", "proportions are of tumour, and the measures of tiles are haematoxylin"),
        ("sample,white\nS4_0x0,1\n", "The proportions have no spot S4_"),
    ],
)
def test_proportions_that_do_not_fit(text, said, held_out, tmp_path):
    (tmp_path / "cells.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        spatial_evidence(held_out, 1, 0, HandmadeStatistics(), proportions=read_proportions(tmp_path / "cells.csv"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("redness", "are no function; give module:function"),
        ("no_such_module:f", "can't be loaded .*no_such_module"),
        ("mine:SIZES", "are no function"),
        ("mine:too_many", "must give one finite number a tile for a"),
        ("mine:taken", "calls a measure white, which is one of ours"),
    ],
)
def test_measures_that_are_none(name, said, monkeypatch):
    own = types.ModuleType("mine")
    own.SIZES, own.too_many = 3, lambda tiles: {"a": np.zeros(len(tiles) + 1)}
    own.taken = lambda tiles: {"white": np.zeros(len(tiles))}
    monkeypatch.setitem(sys.modules, "mine", own)
    with pytest.raises(ValueError, match=said):
        own_measures(name)(np.zeros((2, 32, 32, 3), np.uint8))


def test_generated_tiles_are_the_models_own(held_out, section_run):
    """A condition moved to another spot's moves its tiles: the evidence reads the spot's own profile."""
    model = RNAGAN.from_pretrained(section_run, "cpu")
    names = pd.Index(["S4_0x0", "S4_8x7"], name="sample")
    own = dict(held_out.generated_of(model, names, 2, 0))
    latents = held_out.latents(model, names)
    expected = list(model.generate_each(latents, names.tolist(), [2, 2], 0))
    assert all(np.array_equal(own[name], tiles) for name, tiles in zip(names, expected, strict=True))


def _shuffled(paths, seed, folder):
    """The inputs with the profiles of each section exchanged among its spots."""
    data = anndata.read_h5ad(paths.expression)
    section = data.obs_names.str.partition("_").get_level_values(0).to_numpy() if seed is not None else None
    order, draw = np.arange(data.n_obs), np.random.default_rng(seed)
    for name in () if section is None else np.unique(section):
        order[section == name] = draw.permutation(order[section == name])
    data.X, data.obsm["X_spots"] = data.X[order], data.obsm["X_spots"][order]
    folder.mkdir()
    data.write_h5ad(folder / "expression.h5ad")
    return dataclasses.replace(paths, expression=folder / "expression.h5ad")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_p_is_not_small_for_models_of_shuffled_expression_and_the_least_for_the_true_one(
    section_set, small, tmp_path, monkeypatch
):
    monkeypatch.setattr(RunLog, "_start_mlflow", lambda *_: None)

    def p_of(seed, images):
        inputs = _shuffled(section_set, seed, tmp_path / f"{seed}")
        config = small.replace(condition_units=6, seed=seed or 0, images=images, checkpoint_every=10**9)
        train_gan(config, inputs, tmp_path / f"{seed}/run")
        paths = EvaluationInputs(tmp_path / f"{seed}/run", inputs.shards, inputs.cohort, inputs.expression)
        held_out = open_evaluation_set(paths, "test", need="profiles", device="cpu")
        return spatial_evidence(held_out, 4, 0, HandmadeStatistics()).scores["sections"]["S4"]["measures"]

    own = p_of(None, 8192)["haematoxylin"]
    assert own["beaten"] == own["nulls"] and own["p"] == 1 / (1 + own["nulls"]) and own["r"] > 0.5
    shuffled = [p_of(seed, 96) for seed in range(20)]
    for measure in ("haematoxylin", "eosin"):
        # On 72 spots with 37 nulls p is a little too large; never too small.
        assert kstest([found[measure]["p"] for found in shuffled], "uniform", alternative="greater").pvalue > 0.01
