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

from rnagan.data.index import open_dataset
from rnagan.data.records import write_digest
from rnagan.evaluation import evaluate as module
from rnagan.evaluation import faithfulness
from rnagan.evaluation.evaluate import EvaluationInputs, evaluate
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.tissue_classifier import train_tissue_classifier
from rnagan.expression.store import read_expression, write_expression
from rnagan.files import read_json, write_json
from rnagan.training.gan_run import GANInputs

TOOL = Path(__file__).parents[2] / "tools/evaluate.py"


@pytest.fixture(autouse=True)
def _quick_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faithfulness, "train_tissue_classifier", functools.partial(train_tissue_classifier, steps=20))


@pytest.fixture
def paths(inputs: GANInputs, trained: Path) -> EvaluationInputs:
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


def test_second_run_paints_nothing_and_other_settings_paint_again(
    paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(paths, tmp_path, n=2)
    assert "faithfulness" not in first and not (tmp_path / "measures.png").exists()
    with monkeypatch.context() as patched:
        patched.setattr(module, "paint_profiles", None)
        assert evaluate(paths, tmp_path, n=2) == first
        with pytest.raises(TypeError):
            evaluate(paths, tmp_path, n=2, seed=1)
    assert evaluate(paths, tmp_path, "validation", n=2)["profiles"] == 4


def test_tissue_without_held_out_slides_has_no_picture(
    paths: EvaluationInputs, inputs: GANInputs, tmp_path: Path
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
        write_json(path, record)
    write_digest(shards)
    unknown = EvaluationInputs(paths.model, shards, paths.cohort, paths.expression, truth)
    with pytest.raises(ValueError, match="doesn't say the µm per px of its tiles"):
        evaluate(unknown, tmp_path / "out", n=1)


def test_donors_of_the_training_split_are_no_held_out_donors(
    paths: EvaluationInputs, inputs: GANInputs, tmp_path: Path
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
    monkeypatch.setattr(module, "open_dataset", lambda _: dataclasses.replace(real, **change))
    with pytest.raises(ValueError, match="give shards of the kind that it was trained on"):
        evaluate(paths, tmp_path / "out", n=1)


def test_truth_is_checked_before_painting(
    paths: EvaluationInputs, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "paint_profiles", None)
    table = pd.read_csv(truth)
    for broken, told in (
        (table.drop(columns="site_stain"), "has no column site_stain"),
        (table.iloc[:3], "lacks .* samples"),
        (table.assign(site_stain="pink"), "truth.csv holds a measure that is no number"),
    ):
        broken.to_csv(tmp_path / "truth.csv", index=False)
        with pytest.raises(ValueError, match=told):
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


def test_interrupted_evaluation_vouches_for_nothing(
    paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(paths, tmp_path, n=1)
    monkeypatch.setattr(module, "tissue_accuracy", None)
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
    assert "of painted tiles; of real ones: " in done.output
    assert len([line for line in done.output.splitlines() if " slope " in line]) == 7
    bad = CliRunner().invoke(main, [*options, "--model", str(tmp_path)])
    assert bad.exit_code == 1 and "holds no trained model" in bad.output and bad.output.count("\n") == 1
