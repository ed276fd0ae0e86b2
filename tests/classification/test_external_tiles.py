"""Figure 4D end to end: another cohort's profiles, the tiles generated from them, and the donors of training."""

import dataclasses
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rnagan.api import RNAGAN
from rnagan.classification import cross_validation, external_tiles
from rnagan.classification.classifier import Trained
from rnagan.classification.external_tiles import ExternalInputs, choose_external, evaluate_external, generate_external
from rnagan.classification.labelled_tiles import Labelled
from rnagan.config.classifier import ClassifierConfig
from rnagan.expression.h5ad import read_expression
from rnagan.io.files import read_json, write_json
from rnagan.training.tile_inputs import TileInputs

CONFIG = ClassifierConfig(
    backbone="resnet18", per_class=30, epochs=1, lr=1e-3, validation_share=0.4, batch_size=8, threads=1
)


@pytest.fixture(scope="module")
def profiles(inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy cohort's profiles as a stranger's: other names for people and tissues, a gene in ten missing, and a third
    tissue that the model doesn't know."""
    stored = read_expression(inputs.expression)
    kept = [k for k in range(len(stored.genes)) if k % 10]
    called = {"cortex": "cerebral cortex", "lung": "LUNG"}
    tissues = [called[tissue] for tissue in stored.obs["tissue"]]
    obs = pd.DataFrame({"tissue": [*tissues[:-1], "kidney"]}, [f"X{k}" for k in range(len(tissues))])
    var = pd.DataFrame(index=[stored.genes[k] for k in kept])
    path = tmp_path_factory.mktemp("external") / "external.h5ad"
    anndata.AnnData(stored.values[:, kept], obs, var, uns={"units": "tpm"}).write_h5ad(path)
    return path


def test_profiles_come_without_replacement_first_then_several_tiles_each(
    profiles: Path, trained: Path, tmp_path: Path
) -> None:
    names = {"cerebral cortex": "cortex"}
    for n, most, least in ((5, 1, 1), (12, 1, 1), (30, 3, 2)):
        adata, rows = choose_external(profiles, "tpm", ["cortex", "lung"], names, n, seed=0)
        assert rows.groupby("tissue")["tiles"].sum().to_dict() == {"cortex": n, "lung": n}
        assert (rows["tiles"].max(), rows["tiles"].min()) == (most, least)
        assert rows["profile"].is_unique and list(adata.obs_names) == rows["profile"].tolist()
        assert set(rows["external"]) == {"cerebral cortex", "LUNG"}
    table = tmp_path / "tissues.csv"
    table.write_text("external,ours\ncerebral cortex,cortex\nkidney,Kidney\n")  # a tissue more than the model knows
    _, by_table = choose_external(profiles, "tpm", ["cortex", "lung"], table, 5, seed=0)
    _, by_pairs = choose_external(profiles, "tpm", ["cortex", "lung"], names, 5, seed=0)
    assert by_table.equals(by_pairs)
    with pytest.raises(ValueError, match="is in tpm and the model was trained on counts"):
        choose_external(profiles, "counts", ["cortex", "lung"], names, 5, seed=0)
    with pytest.raises(ValueError, match="shares one tissue with the model and its tiles .lung."):
        choose_external(profiles, "tpm", ["cortex", "lung"], None, 5, seed=0)
    with pytest.raises(ValueError, match="--tissue-map: the training split has no tissue brain; correct column ours"):
        choose_external(profiles, "tpm", ["cortex", "lung"], {"cerebral cortex": "brain"}, 5, seed=0)


def test_profiles_share_batches_and_tiles_are_those_of_each_profile_alone(profiles: Path, trained: Path) -> None:
    model = RNAGAN.from_pretrained(trained)
    adata, rows = choose_external(profiles, "tpm", ["cortex", "lung"], {"cerebral cortex": "cortex"}, 20, seed=0)
    generated = generate_external(model, adata, rows, seed=3)
    first = 0
    for latent, profile, count in zip(adata.obsm["X_rnagan"], rows["profile"], rows["tiles"], strict=True):
        alone = model.generate_tiles(latent, int(count), 3, f"external/{profile}")
        together = generated.tiles[first : first + count]
        assert np.abs(together.astype(int) - alone).max() <= 1
        assert set(generated.about["profile"][first : first + count]) == {profile}
        first += count
    assert first == len(generated.tiles) == len(generated.about) == 40


@pytest.mark.slow
@pytest.mark.guard
def test_the_classifier_learns_from_training_donors_and_is_tested_on_others(
    profiles: Path, trained: Path, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[Labelled, Labelled]] = []
    train_classifier = cross_validation.train_classifier

    def recorded(
        network: object, train: Labelled, config: object, purpose: str, validation: Labelled, *rest: object
    ) -> Trained:
        fitted.append((train, validation))
        return train_classifier(network, train, config, purpose, validation, *rest)

    monkeypatch.setattr(cross_validation, "train_classifier", recorded)
    asked = ExternalInputs(trained, profiles, inputs.shards, inputs.cohort, ("cerebral cortex=cortex",))
    lines = evaluate_external(CONFIG, asked, tmp_path, n=6)
    (train, validation) = fitted[0]
    training_donors = {f"D{k}" for k in range(5)}
    assert set(train.donors) | set(validation.donors) == training_donors
    assert set(validation.donors) and not set(train.donors) & set(validation.donors)
    result = read_json(tmp_path / "result.json")
    assert result["real"]["train"]["donors"] == 5 and result["real"]["test"]["donors"] == 5
    assert result["found"]["generated"]["tiles"] == 12 and result["found"]["real"]["people"] == 5
    assert result["profiles"]["all"]["missing_genes"] == pytest.approx(0.1)
    assert {score["name"] for score in result["scores"]} == {
        f"{measure}, {of}" for measure in ("accuracy", "f1", "auc") for of in external_tiles.SETS.values()
    }
    for score in result["scores"]:
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    confusion = np.array(result["found"]["generated"]["confusion"])
    assert confusion.sum(axis=1).tolist() == [6, 6]
    assert result["found"]["generated"]["accuracy"]["value"] == pytest.approx(np.trace(confusion) / 12)
    with Image.open(tmp_path / "generated.png") as picture:
        assert picture.info["Synthetic"] == "true" and picture.size == (6 * 34 - 2, 2 * 34 - 2)
    page = (tmp_path / "report.html").read_text()
    assert "cerebral cortex" in page and "0.797" in page and page.count("data:image/png") == 2
    assert "Generated from the external cohort" in page and "the article" in lines[-2]

    record = read_json(tmp_path / "evaluation_run.json")
    assert (record["kind"], record["model"]) == ("external_tiles", result["model"])
    assert record["scores"].keys() == {
        f"{of}/{m}" for of in ("real", "generated") for m in ("accuracy", "macro_f1", "auc")
    }
    assert record["scores"]["generated/macro_f1"] == result["found"]["generated"]["f1"]

    assert evaluate_external(CONFIG, asked, tmp_path, n=6) == lines and len(fitted) == 1  # up to date
    assert read_json(tmp_path / "evaluation_run.json") == record
    evaluate_external(CONFIG, asked, tmp_path, n=7)
    assert len(fitted) == 2


def test_inputs_that_do_not_belong_together_are_refused(
    profiles: Path, trained: Path, inputs: TileInputs, tmp_path: Path
) -> None:
    cohort = pd.read_csv(inputs.cohort, dtype=str, keep_default_na=False)
    cohort.loc[cohort["donor"] == "D0", "split"] = "test"
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    asked = ExternalInputs(trained, profiles, inputs.shards, tmp_path / "cohort.csv", ("cerebral cortex=cortex",))
    with pytest.raises(ValueError, match="1 donors of split test .D0. were in the training split of the model"):
        evaluate_external(CONFIG, asked, tmp_path / "out")
    shutil.copytree(trained / "model", tmp_path / "finer")
    record = read_json(tmp_path / "finer/model.json")
    write_json(tmp_path / "finer/model.json", record | {"mpp": record["mpp"] / 2})
    with pytest.raises(ValueError, match="32 px at 1.0 µm per px, and a model generates 32 px at 0.5"):
        evaluate_external(CONFIG, dataclasses.replace(asked, model=tmp_path / "finer"), tmp_path / "out")
    with pytest.raises(ValueError, match="--tissue-map 'a' is neither external=ours nor the only table"):
        evaluate_external(CONFIG, dataclasses.replace(asked, tissue_map=("a", "b=c")), tmp_path / "out")
