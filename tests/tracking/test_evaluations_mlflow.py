"""A toy model, its evaluations and a real MLflow server: up, down, and up again."""

import functools
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import pandas as pd
import pytest

from rnagan.classification.external_tiles import ExternalInputs, evaluate_external
from rnagan.classification.finetune import FinetuneInputs, finetune
from rnagan.comparison.compare import compare_runs
from rnagan.config.classifier import ClassifierConfig
from rnagan.config.gan import GANConfig
from rnagan.evaluation.faithfulness import evaluate
from rnagan.evaluation.fid import compute_fid
from rnagan.evaluation.test_set import EvaluationInputs
from rnagan.evaluation.tile_networks import train_condition_regressor, train_tissue_classifier
from rnagan.expression.h5ad import read_expression
from rnagan.io.files import read_json, write_json
from rnagan.models.resnet import build_backbone, save_backbone
from rnagan.runtime.distributed import Processes
from rnagan.tracking.evaluations import EVALUATION_RECORD
from rnagan.tracking.run_folder import model_digest, read_record
from rnagan.tracking.sync import sync_folders
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from tests.evaluation.pixels import Pixels
from tests.tracking.server import Server

CONFIG = ClassifierConfig(backbone="resnet18", per_class=12, folds=2, epochs=1, lr=1e-3, batch_size=8, threads=1)
EXTERNAL = CONFIG.replace(validation_share=0.4)


class Toy(NamedTuple):
    """A trained run, what it was trained on, and a folder for inputs of evaluations."""

    run: Path
    inputs: TileInputs
    scratch: Path

    @property
    def paths(self) -> EvaluationInputs:
        return EvaluationInputs(self.run, self.inputs.shards, self.inputs.cohort, self.inputs.expression)


def faithfulness(toy: Toy, out: Path) -> None:
    """Measures on held-out donors."""
    evaluate(toy.paths, out, n=3)


def fid(toy: Toy, out: Path) -> None:
    """Scores of generated tiles, on features that are means of pixels."""
    compute_fid(toy.paths, out, Pixels(), toy.scratch / "cache", Processes(0, 1), count=60, map_tiles=0)


def external_tiles(toy: Toy, out: Path) -> None:
    """Figure 4D, on the toy cohort's profiles under other names."""
    stored = read_expression(toy.inputs.expression)
    obs = pd.DataFrame({"tissue": stored.obs["tissue"].to_numpy()}, [f"X{k}" for k in range(len(stored.obs))])
    var = pd.DataFrame(index=stored.genes)
    anndata.AnnData(stored.values, obs, var, uns={"units": "tpm"}).write_h5ad(toy.scratch / "external.h5ad")
    inputs = ExternalInputs(toy.run, toy.scratch / "external.h5ad", toy.inputs.shards, toy.inputs.cohort, ())
    evaluate_external(EXTERNAL, inputs, out, n=6)


def classifier_folds(toy: Toy, out: Path) -> None:
    """A backbone that was pretrained on tiles of the model, in folds."""
    about = {"backbone": "resnet18", "norm": "batch", "donors": None, "made_from": {"shards": "generated"}}
    generator = {"generator": model_digest(toy.run / "model")}
    save_backbone(toy.scratch / "simclr", build_backbone("resnet18", "batch", 77)[0], about | generator)
    finetune(CONFIG, FinetuneInputs(toy.inputs.shards, toy.inputs.cohort, toy.scratch / "simclr"), out)


EVALUATIONS: dict[str, Callable[[Toy, Path], None]] = {
    "faithfulness": faithfulness,
    "fid": fid,
    "external_tiles": external_tiles,
    "classifier_folds": classifier_folds,
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that is up, at MLFLOW_TRACKING_URI."""
    found = Server(tmp_path)
    try:
        found.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
        yield found
    finally:
        found.stop()


@pytest.fixture
def toy(server: Server, small: GANConfig, inputs: TileInputs, tmp_path: Path) -> Toy:
    """A run that the server has seen."""
    train_gan(small, inputs, tmp_path / "runs/toy")
    (tmp_path / "scratch").mkdir()
    return Toy(tmp_path / "runs/toy", inputs, tmp_path / "scratch")


def children(server: Server, run: Path) -> dict[str, Any]:
    """The evaluations under a run in the server, by kind; each kind is there once."""
    from mlflow import MlflowClient

    client, own = MlflowClient(tracking_uri=server.uri), read_record(run)["mlflow_run"]
    home = client.get_run(own).info.experiment_id
    found = client.search_runs([home], f"tags.`mlflow.parentRunId` = '{own}'")
    kinds = [child.data.tags["evaluation"] for child in found]
    assert len(kinds) == len(set(kinds)), kinds
    return dict(zip(kinds, found, strict=True))


class Rows(HTMLParser):
    """The text of the first cells of a page's table rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self._row = False
        self.feed(text)

    def handle_starttag(self, tag: str, _: Any) -> None:
        self._row = self._row or tag == "tr"

    def handle_data(self, data: str) -> None:
        if self._row and data.strip():
            self.names.append(data.strip())
            self._row = False


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two starts of a server and four evaluations; a busy machine needs more than five minutes
@pytest.mark.usefixtures("mirrored_evaluations")
def test_evaluations_stand_under_the_run_of_their_model(
    server: Server, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, train, steps in (
        ("train_tissue_classifier", train_tissue_classifier, 20),
        ("train_condition_regressor", train_condition_regressor, 6),
    ):
        monkeypatch.setattr(f"rnagan.evaluation.tile_measurements.{name}", functools.partial(train, steps=steps))
    far = tmp_path / "far"  # from the run: MLflow alone knows that they are its
    for kind in ("faithfulness", "fid"):
        EVALUATIONS[kind](toy, far / kind)
    assert children(server, toy.run).keys() == {"faithfulness", "fid"}

    server.stop()
    for kind in ("external_tiles", "classifier_folds"):
        with pytest.warns(UserWarning) as warned:
            EVALUATIONS[kind](toy, far / kind)
        (said,) = [str(each.message) for each in warned if "MLflow" in str(each.message)]
        assert f"rnagan sync-mlflow {far / kind}" in said and "the evaluation goes on" in said

    server.start()
    assert children(server, toy.run).keys() == {"faithfulness", "fid"}
    lines = list(sync_folders([toy.run, far]))
    assert sum("brought to MLflow" in line for line in lines) == 2
    assert all("MLflow is up to date" in line for line in sync_folders([toy.run, far]))
    found = children(server, toy.run)
    assert found.keys() == EVALUATIONS.keys()
    for kind, child in found.items():
        record = read_json(far / kind / EVALUATION_RECORD)
        known = {score["value"] for score in record["scores"].values() if score["value"] is not None}
        assert known and known <= set(child.data.metrics.values())
        tags = {"kind": "evaluation", "model_digest": model_digest(toy.run / "model")}
        assert child.data.tags.items() >= (tags | {"protocol_digest": record["protocol_digest"]}).items()
        assert child.data.params and child.info.status == "FINISHED"

    scores = {name for kind in EVALUATIONS for name in read_json(far / kind / EVALUATION_RECORD)["scores"]}
    shutil.rmtree(far)
    other = shutil.copytree(toy.run, toy.run.parent / "other")
    (other / "run.json").unlink()
    write_json(other / "model/model.json", read_json(other / "model/model.json") | {"digest": "f" * 64})
    compare_runs([toy.run, other], tmp_path / "compared")
    rows = Rows((tmp_path / "compared/compare.html").read_text())
    assert scores <= set(rows.names)
