"""Starts compared in one cross-validation, from paths to page."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torchvision

from rnagan.classification import cross_validation
from rnagan.classification.classifier import ResNetClassifier, from_imagenet, from_scratch, from_simclr
from rnagan.classification.finetune import FinetuneInputs, finetune
from rnagan.cohort.leakage import donor_digest
from rnagan.config.classifier import ClassifierConfig
from rnagan.config.gan import GANConfig
from rnagan.config.simclr import SimCLRConfig
from rnagan.data.index import open_dataset
from rnagan.generation import generate_tiles
from rnagan.io.files import read_json
from rnagan.io.weights import write_tensors
from rnagan.models.resnet import build_backbone, save_backbone
from rnagan.tracking.mlflow_store import default_tracking_uri
from rnagan.tracking.run_log import RunLog
from rnagan.training.simclr.train import pretrain_simclr
from rnagan.training.tile_inputs import TileInputs

CONFIG = ClassifierConfig(backbone="resnet18", per_class=12, folds=2, epochs=1, threads=1, lr=1e-3)
RECORD = {"backbone": "resnet18", "norm": "batch", "donors": None, "made_from": {"shards": "generated"}}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone as a run of SimCLR leaves it; its weights are drawn."""
    folder = tmp_path_factory.mktemp("pretrained")
    save_backbone(folder, build_backbone("resnet18", "batch", 77)[0], RECORD)
    return folder


@pytest.mark.slow
@pytest.mark.guard
def test_starts_share_folds_and_finished_folds_are_kept(
    inputs: TileInputs, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, frozenset[str]]] = []
    train_classifier = cross_validation.train_classifier

    def recorded(network, train, config, purpose, *rest):
        trained.append((purpose, frozenset(train.donors)))
        if len(trained) == 4:
            raise KeyboardInterrupt
        return train_classifier(network, train, config, purpose, *rest)

    monkeypatch.setattr(cross_validation, "train_classifier", recorded)
    asked = FinetuneInputs(inputs.shards, inputs.cohort, pretrained)
    with pytest.raises(KeyboardInterrupt):
        finetune(CONFIG, asked, tmp_path)
    assert not (tmp_path / "result.json").exists()
    lines = finetune(CONFIG, asked, tmp_path)
    assert len(trained) == 5  # the fold that was cut off, and no other
    assert trained[0] == trained[2] and trained[1] == trained[3] == trained[4] and trained[0] != trained[1]
    result = read_json(tmp_path / "result.json")
    assert list(result["starts"]) == ["scratch", "SimCLR"] and result["tiles"] == {"cortex": 12, "lung": 12}
    for found in result["starts"].values():
        confusion = np.array(found["confusion"])
        assert confusion.sum(axis=1).tolist() == [12, 12]
        assert confusion.tolist() == np.sum(found["confusion_by_fold"], axis=0).tolist()
        folds = [np.trace(matrix) / np.sum(matrix) for matrix in found["confusion_by_fold"]]
        assert found["accuracy"]["folds"] == pytest.approx(folds)
        assert found["accuracy"]["mean"] == pytest.approx(np.mean(folds))
        assert found["accuracy"]["sd"] == pytest.approx(np.std(folds, ddof=1))
    assert [score["name"] for score in result["scores"]][:2] == ["accuracy, scratch", "f1, scratch"]
    assert all(score["low"] <= score["value"] <= score["high"] for score in result["scores"])
    compared = result["comparisons"][0]
    assert compared["donor_permutation"]["donors"] == 12 and result["test_over_train"] == pytest.approx(1)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png") == 2 and "85.50% ± 1.54%" in page and "Nadeau" in page
    assert any("5 donors here are of the training split" in line for line in lines)

    record = read_json(tmp_path / "evaluation_run.json")
    assert record["kind"] == "classifier_folds" and record["model"] == result["weights"]["SimCLR"]
    for start, found in result["starts"].items():
        score = record["scores"][f"{start}/macro_f1"]
        assert score == {"value": found["f1"]["mean"], "low": found["f1"]["low"], "high": found["f1"]["high"]}
        assert [record["scores"][f"{start}/accuracy/fold_{k}"]["value"] for k in (1, 2)] == found["accuracy"]["folds"]
    assert record["scores"]["SimCLR less scratch/accuracy"]["value"] == compared["difference"]

    before = len(trained)
    assert finetune(CONFIG.replace(threads=0), asked, tmp_path) == lines and len(trained) == before
    assert read_json(tmp_path / "evaluation_run.json") == record
    finetune(CONFIG, dataclasses.replace(asked, pretrained=None), tmp_path / "alone")
    assert len(trained) == before + 2
    alone = read_json(tmp_path / "alone/evaluation_run.json")
    assert alone["run"] is None and alone["model"] == alone["protocol_digest"]


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.usefixtures("mirrored_evaluations")
def test_folds_stand_under_the_run_of_the_generator_of_the_tiles_of_pretraining(
    inputs: TileInputs, trained: Path, mlflow_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of a generator, SimCLR on them, then the folds, which are a child of the generator's run in MLflow."""
    from mlflow import MlflowClient

    digest = read_json(trained / "model/model.json")["digest"]
    run = RunLog(mlflow_runs / "generator", GANConfig(), "rnagan", main=True, tags={"model_digest": digest})
    choice = {"n": 2, "seed": 0, "form": "shards", "split": "train", "samples": []}
    generate_tiles(trained, inputs.expression, mlflow_runs / "tiles", **choice)
    monkeypatch.setattr(RunLog, "_start_mlflow", lambda *_: None)  # SimCLR's own run is no matter here
    settings = {"epochs": 1, "batch_size": 16, "projection": 8, "precision": "float32", "threads": 1}
    pretrain_simclr(SimCLRConfig(backbone="resnet18", **settings), mlflow_runs / "tiles", mlflow_runs / "simclr")
    assert read_json(mlflow_runs / "simclr/backbone.json")["generator"] == digest
    out = mlflow_runs / "classifier"
    finetune(CONFIG, FinetuneInputs(inputs.shards, inputs.cohort, mlflow_runs / "simclr"), out)
    record = read_json(out / "evaluation_run.json")
    assert record["model"] == digest and record["mlflow_run"]
    found = MlflowClient(tracking_uri=default_tracking_uri(out)).get_run(record["mlflow_run"])
    assert found.data.tags["mlflow.parentRunId"] == run.run_id
    assert found.data.metrics.keys() >= {"SimCLR/accuracy", "SimCLR/accuracy/fold_1", "scratch/macro_f1/low"}


@pytest.mark.slow
@pytest.mark.guard
def test_every_start_but_its_own_weights_is_the_same(pretrained: Path, tmp_path: Path) -> None:
    write_tensors(tmp_path / "imagenet.safetensors", torchvision.models.resnet18().state_dict())
    starts = [
        from_scratch(),
        from_simclr(pretrained, CONFIG, "tiles", [])[0],
        from_imagenet(tmp_path / "imagenet.safetensors"),
    ]
    networks = [ResNetClassifier(CONFIG, 3, 1, start) for start in starts]
    assert all((network.head.weight == networks[0].head.weight).all() for network in networks)
    firsts = [network.backbone.conv1.weight for network in networks]
    assert (firsts[1] == build_backbone("resnet18", "batch", 77)[0].conv1.weight).all()
    assert len({weight.sum().item() for weight in firsts}) == 3
    with pytest.raises(ValueError, match=r"holds backbone resnet18, not resnet50; choose --backbone resnet18"):
        from_simclr(pretrained, CONFIG.replace(backbone="resnet50"), "tiles", [])


def test_weights_that_have_seen_these_donors_are_refused(inputs: TileInputs, tmp_path: Path) -> None:
    network, _ = build_backbone("resnet18", "batch", 0)
    asked = FinetuneInputs(inputs.shards, inputs.cohort, tmp_path)
    save_backbone(tmp_path, network, RECORD | {"made_from": {"shards": open_dataset(inputs.shards).digest}})
    with pytest.raises(ValueError, match="was pretrained on these very tiles"):
        finetune(CONFIG, asked, tmp_path / "out", dry_run=True)
    save_backbone(tmp_path, network, RECORD | {"donors": [donor_digest("D1")]})
    with pytest.raises(ValueError, match="donors of split any fold .D1. were in the training split"):
        finetune(CONFIG, asked, tmp_path / "out", dry_run=True)
    cohort = pd.read_csv(inputs.cohort, dtype=str, keep_default_na=False)  # a record names the profiles' donors
    cohort.assign(image_donor="person-" + cohort["slide"]).to_csv(tmp_path / "paired.csv", index=False)
    with pytest.raises(ValueError, match="donors of split any fold .D1. were in the training split"):
        finetune(CONFIG, dataclasses.replace(asked, cohort=tmp_path / "paired.csv"), tmp_path / "out", dry_run=True)
    lines = finetune(CONFIG.replace(where="split=test"), asked, tmp_path / "out", dry_run=True)
    assert lines == ["12 tiles of cortex (5 donors), 12 tiles of lung (5 donors); starts: scratch, SimCLR."]
