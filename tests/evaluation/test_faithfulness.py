import dataclasses
import functools
import json
import math
import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.manifest import write_record
from rnagan.data.set_digest import write_digest
from rnagan.evaluation import donor_evaluation, test_set, tile_measurements
from rnagan.evaluation import faithfulness as module
from rnagan.evaluation.faithfulness import evaluate
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet
from rnagan.evaluation.tile_networks import train_condition_regressor, train_tissue_classifier
from rnagan.expression.h5ad import read_expression, write_expression
from rnagan.io.files import read_json, sha256_of
from rnagan.reports.console import lines
from rnagan.tracking.run_log import RunLog
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs

TOOL = Path(__file__).parents[2] / "tools/evaluate_faithfulness.py"


@pytest.fixture(autouse=True)
def _quick_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tile_measurements, "train_tissue_classifier", functools.partial(train_tissue_classifier, steps=20)
    )
    monkeypatch.setattr(
        tile_measurements, "train_condition_regressor", functools.partial(train_condition_regressor, steps=6)
    )


@pytest.fixture
def paths(inputs: TileInputs, trained: Path) -> EvaluationInputs:
    return EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)


def test_with_truth(paths: EvaluationInputs, truth: Path, tmp_path: Path) -> None:
    result = evaluate(EvaluationInputs(paths.model, paths.shards, paths.cohort, paths.expression, truth), tmp_path, n=3)
    assert result == json.loads((tmp_path / "evaluation.json").read_text())
    assert (result["profiles"], result["tiles_per_profile"], result["split"]) == (11, 3, "test")
    assert 0 <= result["tissue_accuracy"] <= 1 and result["tissue_accuracy_real"] > 0.9
    assert set(result["faithfulness"]["cortex"]) == set(MEASURES) - {"air_fraction"}
    for measures in result["faithfulness"].values():
        for found in measures.values():
            assert all(math.isfinite(value) for value in found.values())
            assert found["low"] <= found["r"] <= found["high"] or found["p"] == 1
    assert result["faithfulness"]["lung"]["air_fraction"]["donors"] == 5  # one of them with two profiles
    assert result["faithfulness"]["lung"]["air_fraction"]["ceiling_donors"] == 5
    table = pd.read_csv(tmp_path / "measures.csv", index_col="sample")
    assert len(table) == 11 and table["nuclear_density_real"].isna().sum() == 1
    assert {"nuclear_density", "nuclear_density_expected", "tissue", "site"} <= set(table.columns)
    assert result["pictures"] == ["cortex.png", "lung.png"]
    for name in (*result["pictures"], "measures.png"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture).std() > 0


def test_second_run_generates_nothing_and_other_settings_generate_again(
    paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(paths, tmp_path, n=2)
    assert "faithfulness" not in first
    with monkeypatch.context() as patched:
        patched.setattr(EvaluationSet, "generated_of", None)
        assert evaluate(paths, tmp_path, n=2) == first
        with pytest.raises(TypeError):
            evaluate(paths, tmp_path, n=2, seed=1)
    assert evaluate(paths, tmp_path, "validation", n=2)["profiles"] == 4


def test_tissue_without_held_out_slides_has_no_picture(
    paths: EvaluationInputs, inputs: TileInputs, tmp_path: Path
) -> None:
    cohort = pd.read_csv(inputs.cohort, dtype=str, keep_default_na=False)
    cohort.loc[(cohort["split"] == "test") & (cohort["tissue"] == "lung"), "slide"] = ""
    cohort.drop_duplicates("sample").to_csv(tmp_path / "cohort.csv", index=False)
    fewer = EvaluationInputs(paths.model, paths.shards, tmp_path / "cohort.csv", paths.expression)
    result = evaluate(fewer, tmp_path / "out", n=2)
    assert result["profiles"] == 11 and result["pictures"] == ["cortex.png"]


def test_tiles_of_unknown_resolution_cannot_be_measured(paths: EvaluationInputs, truth: Path, tmp_path: Path) -> None:
    shards = shutil.copytree(paths.shards, tmp_path / "shards")
    for path in shards.glob("*.record.json"):
        record = read_json(path)
        record["options"]["mpp"] = None
        write_record(shards, record | {"options_digest": sha256_of(record["options"])})
    write_digest(shards)
    unknown = EvaluationInputs(paths.model, shards, paths.cohort, paths.expression, truth)
    with pytest.raises(ValueError, match="doesn't say the µm per px of its tiles"):
        evaluate(unknown, tmp_path / "out", n=1)


def test_donors_of_the_training_split_are_no_held_out_donors(
    paths: EvaluationInputs, inputs: TileInputs, tmp_path: Path
) -> None:
    cohort = pd.read_csv(inputs.cohort, dtype=str, keep_default_na=False)
    swap = {"train": "test", "test": "train", "validation": "validation"}
    cohort.assign(split=cohort["split"].map(swap)).to_csv(tmp_path / "cohort.csv", index=False)
    resplit = dataclasses.replace(paths, cohort=tmp_path / "cohort.csv")
    with pytest.raises(ValueError, match="are in one split in .*cohort.csv and in another"):
        evaluate(resplit, tmp_path / "out", n=1)
    data = read_expression(inputs.expression)
    swapped = dataclasses.replace(data, obs=data.obs.assign(split=data.obs["split"].map(swap)))
    write_expression(tmp_path / "e.h5ad", swapped, "digest")
    with pytest.raises(
        ValueError, match=r"5 donors of split test \(D0, D1, D2 and 2 more\) were in the training split"
    ):
        evaluate(dataclasses.replace(resplit, expression=tmp_path / "e.h5ad"), tmp_path / "out", n=1)


@pytest.mark.parametrize("change", [{"tile_px": 48}, {"mpp": 2.0}])
def test_real_tiles_of_another_kind_are_refused(
    paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict
) -> None:
    real = open_dataset(paths.shards)
    monkeypatch.setattr(test_set, "open_dataset", lambda _: dataclasses.replace(real, **change))
    with pytest.raises(ValueError, match="give shards of the kind that it was trained on"):
        evaluate(paths, tmp_path / "out", n=1)


def test_truth_is_checked_before_generating(
    paths: EvaluationInputs, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EvaluationSet, "generated_of", None)
    table = pd.read_csv(truth)
    for broken, said in (
        (table.drop(columns="site_stain"), "has no column site_stain"),
        (table.iloc[:3], "lacks .* samples"),
        (table.assign(site_stain="pink"), "truth.csv holds a measure that is no number"),
    ):
        broken.to_csv(tmp_path / "truth.csv", index=False)
        with pytest.raises(ValueError, match=said):
            evaluate(dataclasses.replace(paths, truth=tmp_path / "truth.csv"), tmp_path / "out", n=1)


def test_split_without_real_tiles_or_with_few_donors(paths: EvaluationInputs, truth: Path, tmp_path: Path) -> None:
    cohort = pd.read_csv(paths.cohort, dtype=str, keep_default_na=False)
    cohort.loc[cohort["split"] == "test", "slide"] = ""
    cohort.drop_duplicates(["sample", "slide"]).to_csv(tmp_path / "cohort.csv", index=False)
    bare = dataclasses.replace(paths, cohort=tmp_path / "cohort.csv", truth=truth)
    result = evaluate(bare, tmp_path / "bare", n=1)
    assert result["tissue_accuracy_real"] is None and result["pictures"] == []
    assert (tmp_path / "bare/measures.png").is_file()
    assert result["faithfulness"]["lung"]["air_fraction"]["ceiling"] is None
    few = evaluate(dataclasses.replace(paths, truth=truth), tmp_path / "few", "validation", n=1)
    assert few["faithfulness"] == {}


def test_without_truth_the_donors_own_real_tiles_are_what_is_expected(
    paths: EvaluationInputs, truth: Path, tmp_path: Path
) -> None:
    found = evaluate(paths, tmp_path / "out", n=4, train_donors=0)
    assert "train" not in found and not (tmp_path / "out/measures_train.csv").exists()
    table = pd.read_csv(tmp_path / "out/measures.csv", index_col="sample").dropna(subset="matrix_colour_real")
    for tissue, rows in table.groupby("tissue"):
        own = rows.groupby("donor")[["matrix_colour", "matrix_colour_real"]].mean()
        score = found["on_real_tiles"][tissue]["matrix_colour"]
        assert score["r"] == pytest.approx(np.corrcoef(own["matrix_colour_real"], own["matrix_colour"])[0, 1])
        assert score["donors"] == 5 and 0.5 < score["ceiling"] <= 1  # colour is the donor's, and tiles agree on it
    assert (tmp_path / "out/measures.png").is_file()


def test_tiles_of_other_people_say_nothing_within_a_tissue(paths: EvaluationInputs, tmp_path: Path) -> None:
    cohort = pd.read_csv(paths.cohort, dtype=str, keep_default_na=False)
    cohort.assign(image_donor=cohort["slide"]).to_csv(tmp_path / "cohort.csv", index=False)
    found = evaluate(dataclasses.replace(paths, cohort=tmp_path / "cohort.csv"), tmp_path / "out", n=2)
    assert "on_real_tiles" not in found and "retrieval" not in found and not (tmp_path / "out/measures.png").exists()
    assert any("of different people" in note for note in found["notes"]) and found["tissue_accuracy_real"] > 0.9
    assert "of different people" in (tmp_path / "out/faithfulness.html").read_text()


def test_training_donors_are_evaluated_and_hidden_from_the_regressor(
    paths: EvaluationInputs, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retrieval, with as many validation donors as the toy has, on held-out and on training donors."""
    monkeypatch.setattr(donor_evaluation, "FEWEST_TO_FIT", 2)
    trained_on: list[pd.DataFrame] = []
    train = donor_evaluation.train_regressor
    monkeypatch.setattr(
        donor_evaluation, "train_regressor", lambda *given: trained_on.append(given[1]) or train(*given)
    )
    swapped = splits_swapped(paths, tmp_path)
    found = evaluate(dataclasses.replace(swapped, truth=truth), tmp_path / "out", n=3)
    compared = set(pd.read_csv(tmp_path / "out/measures_train.csv")["donor"])
    assert found["train"]["donors"] == {"cortex": 2, "lung": 2} and len(compared) == 2
    assert compared.isdisjoint(trained_on[0]["donor"]) and compared | set(trained_on[0]["donor"]) == set(TRAINING)
    for tissue in ("cortex", "lung"):
        kinds = found["retrieval"][tissue]
        assert set(kinds) == {"real", "generated"} and kinds["generated"]["tissue"]["candidates"] == 3
        assert all(0 <= own["rank_low"] <= own["rank"] <= own["rank_high"] <= 1 for own in kinds["real"].values())
    places = pd.read_csv(tmp_path / "out/retrieval.csv")
    assert set(places["tiles"]) == {"real", "generated"} and len(places) == 2 * 2 * 3  # of two nobody is found among
    assert "Is the right donor found?" in (tmp_path / "out/faithfulness.html").read_text()


TRAINING = [f"D{k}" for k in range(5)] + ["D9", "D10"]


def splits_swapped(paths: EvaluationInputs, tmp_path: Path) -> EvaluationInputs:
    """The toy cohort with seven training donors, so that two can be kept from the regressor."""
    cohort = pd.read_csv(paths.cohort, dtype=str, keep_default_na=False)
    cohort.loc[cohort["donor"].isin(TRAINING), "split"] = "train"
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    data = read_expression(paths.expression)
    obs = data.obs.assign(split=data.obs["split"].mask(data.obs["donor"].isin(TRAINING), "train"))
    write_expression(tmp_path / "e.h5ad", dataclasses.replace(data, obs=obs), "digest")
    return dataclasses.replace(paths, cohort=tmp_path / "cohort.csv", expression=tmp_path / "e.h5ad")


@pytest.fixture(scope="module")
def null(small: GANConfig, inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "null"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        train_gan(small.replace(images=16, shuffle_profiles=True), inputs, run)
    return run


def test_a_null_is_shown_beside_the_model_and_must_be_one(
    paths: EvaluationInputs, truth: Path, null: Path, tmp_path: Path
) -> None:
    found = evaluate(dataclasses.replace(paths, truth=truth, null=null), tmp_path / "out", n=2)
    alone = evaluate(dataclasses.replace(paths, truth=truth, model=null), tmp_path / "alone", n=2)
    assert found["null"]["faithfulness"] == alone["faithfulness"] != found["faithfulness"]
    assert found["null"]["tissue_accuracy"] == alone["tissue_accuracy"]
    shown = lines(found)
    assert any(line.startswith("tissue") and "null r" in line for line in shown)
    assert "<th>r, null</th>" in (tmp_path / "out/faithfulness.html").read_text()
    with pytest.raises(ValueError, match="trained on each slide's own profile, so it is no null; .*--shuffle-profiles"):
        evaluate(dataclasses.replace(paths, null=paths.model), tmp_path / "no", n=2)


def test_interrupted_evaluation_vouches_for_nothing(
    paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(paths, tmp_path, n=1)
    monkeypatch.setattr(module, "_draw", None)
    with pytest.raises(TypeError):
        evaluate(paths, tmp_path, n=2)
    assert not (tmp_path / "evaluation.json").exists()


def test_script(paths: EvaluationInputs, truth: Path, tmp_path: Path) -> None:
    main = runpy.run_path(str(TOOL))["main"]
    options = [
        f"--model={paths.model}",
        f"--shards={paths.shards}",
        f"--cohort={paths.cohort}",
        f"--expression={paths.expression}",
        f"--out={tmp_path / 'out'}",
        "--n=2",
    ]
    done = CliRunner().invoke(main, [*options, f"--truth={truth}"])
    assert done.exit_code == 0, done.output
    assert "of generated tiles; of real ones: " in done.output
    rows = [line.split() for line in done.output.splitlines() if line.split()[1:2] and line.split()[1] in MEASURES]
    assert len(rows) == 7 and all(len(row) == 11 for row in rows)  # r and its interval are four words
    page = (tmp_path / "out/faithfulness.html").read_text()
    assert "Does the tissue follow the RNA?" in page and page.count('<tr class="control">') == 2
    bad = CliRunner().invoke(main, [*options, "--model", str(tmp_path)])
    assert bad.exit_code == 1 and "holds no trained model" in bad.output and bad.output.count("\n") == 1


@pytest.mark.slow
@pytest.mark.guard
def test_those_who_were_left_out_stand_beside_the_others(paths: EvaluationInputs, truth: Path, tmp_path: Path) -> None:
    """Three held-out donors become those of another centre; the model saw none of them."""
    cohort, expression = pd.read_csv(paths.cohort, dtype=str, keep_default_na=False), read_expression(paths.expression)
    out = ["D5", "D6", "D7"]
    cohort.loc[cohort["donor"].isin(out), "split"] = "left_out"
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    obs = expression.obs.assign(split=expression.obs["split"].mask(expression.obs["donor"].isin(out), "left_out"))
    write_expression(tmp_path / "expression.h5ad", dataclasses.replace(expression, obs=obs), "digest")
    own = dataclasses.replace(
        paths, cohort=tmp_path / "cohort.csv", expression=tmp_path / "expression.h5ad", truth=truth
    )
    result = evaluate(own, tmp_path / "out", n=2, train_donors=0, device="cpu")
    assert (result["profiles"], result["left_out"]["profiles"]) == (9, 6)
    measured = result["left_out"]["faithfulness"]["lung"]["matrix_colour"]
    assert measured["donors"] == len(out) and module.scores_of(result)["left_out/faithfulness/lung/matrix_colour/r"]
    assert "r (slope), left out" in (tmp_path / "out/faithfulness.html").read_text()
    assert "left out r" in "\n".join(lines(result))
    alone = evaluate(own, tmp_path / "alone", "left_out", n=2, train_donors=0, device="cpu")
    assert alone["profiles"] == result["left_out"]["profiles"] and "left_out" not in alone

    seen = cohort.assign(split=cohort["split"].where(cohort["donor"] != "D0", "left_out"))
    seen.to_csv(tmp_path / "cohort.csv", index=False)
    obs = obs.assign(split=obs["split"].where(obs["donor"] != "D0", "left_out"))
    write_expression(tmp_path / "expression.h5ad", dataclasses.replace(expression, obs=obs), "digest")
    with pytest.raises(ValueError, match="in the training split of a model"):
        evaluate(own, tmp_path / "seen", n=2, train_donors=0, device="cpu")
