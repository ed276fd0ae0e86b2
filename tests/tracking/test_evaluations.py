"""Records of evaluations, and their runs in a real sqlite store of MLflow."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnagan.cohort.table import claim_of
from rnagan.config.vae import VAEConfig
from rnagan.io.files import read_json, write_json
from rnagan.tracking import evaluations
from rnagan.tracking.evaluations import EVALUATION_RECORD, evaluation_to_mlflow, find_evaluations, record_evaluation
from rnagan.tracking.mlflow_limits import allowed_name
from rnagan.tracking.mlflow_store import default_tracking_uri
from rnagan.tracking.run_folder import read_record
from rnagan.tracking.run_log import RunLog

DIGEST, BEST = "a" * 64, "b" * 64
SCORES = {"fid60k": {"value": 30.0, "low": 28.0, "high": 33.0}, "r, lung, air (all)": {"value": 0.5}}
PROTOCOL = {"tiles": 60_000, "versions": {"torch": "2"}, "shards": "c" * 64}


@pytest.fixture
def run(mlflow_runs: Path) -> Path:
    """A finished run with two models, in MLflow."""
    run = mlflow_runs / "run"
    log = RunLog(run, VAEConfig(latent=6), "rnagan", main=True, tags={"kind": "gan"})
    write_json(run / "model/model.json", {"digest": DIGEST})
    write_json(run / "model-best/model.json", {"digest": BEST})
    log.close()
    return run


def runs_of(run: Path, evaluation: str = "fid") -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=default_tracking_uri(run))
    homes = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(homes, f"tags.evaluation = '{evaluation}'")


def record(out: Path) -> dict[str, Any]:
    return read_json(out / EVALUATION_RECORD)


@pytest.mark.usefixtures("mirrored_evaluations")
def test_an_evaluation_is_a_child_of_the_run_of_its_model(run: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    out = tmp_path / "fid"
    write_json(out / "page.html", "page")
    write_json(out / "plots/scores.png", "picture")
    page = out / "page.html", [out / "plots/scores.png"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of an unreachable store
        record_evaluation(out, "fid", run, SCORES, PROTOCOL, *page, claim_of("section"))
    (found,) = runs_of(run)
    assert found.data.tags["split_by"] == "section" and "not for other people" in found.data.tags["claim"]
    assert found.data.tags["mlflow.parentRunId"] == read_record(run)["mlflow_run"] and found.info.status == "FINISHED"
    written = record(out)
    assert written["model"] == DIGEST and written["scores"] == SCORES and written["mlflow_run"] == found.info.run_id
    assert (written["page"], written["pictures"]) == ("page.html", ["plots/scores.png"])
    tags = {"kind": "evaluation", "evaluation": "fid", "model_digest": DIGEST}
    assert found.data.tags.items() >= (tags | {"protocol_digest": written["protocol_digest"]}).items()
    values = {"fid60k": 30.0, "fid60k/low": 28.0, "fid60k/high": 33.0, "r/lung/air _all_": 0.5}
    assert found.data.metrics == values
    assert found.data.params == {"tiles": "60000", "versions/torch": "2", "shards": "c" * 64}
    client = MlflowClient(tracking_uri=default_tracking_uri(run))
    names = {each.path for each in client.list_artifacts(found.info.run_id)}
    assert names == {"record.json", "page.html", "scores.png"}
    parent = client.get_run(read_record(run)["mlflow_run"])
    assert parent.info.status == "FINISHED" and parent.data.tags["best_model_digest"] == BEST


@pytest.mark.usefixtures("mirrored_evaluations")
@pytest.mark.parametrize("model", ["run", "model", "best", "copy", "digest"])
def test_the_run_is_found_from_any_form_of_its_model(model: str, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", run.parent / "elsewhere/copied")
    shutil.copy(run.parent / "mlflow.db", run.parent / "elsewhere/mlflow.db")
    write_json(run.parent / "elsewhere/run.json", {"key": "of a run that left another model"})
    given: dict[str, Any] = {"run": run, "model": run / "model", "best": run / "model-best"}
    given |= {"copy": run.parent / "elsewhere/copied", "digest": BEST}
    out = run.parent / "evaluation"  # beside the same store
    record_evaluation(out, "fid", given[model], SCORES, PROTOCOL)
    assert (record(out)["run"] is None) == (model in ("copy", "digest"))
    (found,) = runs_of(run)
    assert found.data.tags["mlflow.parentRunId"] == read_record(run)["mlflow_run"]
    assert found.data.tags["model_digest"] == (BEST if model in ("best", "digest") else DIGEST)


@pytest.mark.usefixtures("mirrored_evaluations")
def test_the_same_again_adds_nothing_and_other_figures_are_newer(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        record_evaluation(out, "fid", run, SCORES, PROTOCOL)
        before = (out / EVALUATION_RECORD).read_bytes()
        assert sum(evaluation_to_mlflow(out / EVALUATION_RECORD).values()) == 0
        assert (out / EVALUATION_RECORD).read_bytes() == before
    for value in (29.0, 30.0):  # back to what it was
        record_evaluation(out, "fid", run, {"fid60k": {"value": value}}, PROTOCOL)
        (found,) = runs_of(run)
        assert found.data.metrics["fid60k"] == value
    record_evaluation(out, "fid", run, SCORES, PROTOCOL | {"tiles": 10_000})  # another protocol is another evaluation
    assert sorted(found.data.params["tiles"] for found in runs_of(run)) == ["10000", "60000"]


@pytest.mark.usefixtures("mirrored_evaluations")
def test_a_store_that_knows_no_run_of_the_model_has_one_of_its_own(mlflow_runs: Path) -> None:
    out = mlflow_runs / "out"
    record_evaluation(out, "fid", DIGEST, SCORES, PROTOCOL)
    (found,) = runs_of(out)
    assert "mlflow.parentRunId" not in found.data.tags and found.info.run_name == "fid: runs/out"
    log = RunLog(mlflow_runs / "run", VAEConfig(), "rnagan", main=True, tags={"model_digest": DIGEST})
    record_evaluation(out, "fid", DIGEST, SCORES, PROTOCOL)  # the run has come
    (found,) = runs_of(out)
    assert found.data.tags["mlflow.parentRunId"] == log.run_id


@pytest.mark.usefixtures("mirrored_evaluations")
def test_an_unreachable_server_costs_one_warning(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match=r"not reachable .*the evaluation goes on.* rnagan sync-mlflow .*out") as said:
        record_evaluation(tmp_path / "out", "fid", run, SCORES, PROTOCOL)
    assert len([each for each in said if "MLflow" in str(each.message)]) == 1
    assert record(tmp_path / "out")["mlflow_run"] is None and record(tmp_path / "out")["scores"] == SCORES


def test_a_record_holds_plain_values(tmp_path: Path) -> None:
    scores = {"a": {"value": np.float32(0.5), "low": float("nan"), "high": 1.0}, "b": {"value": float("nan")}}
    protocol = {"out": tmp_path, "counts": np.array([1, 2]), "pair": (np.int64(1), True), "inf": float("inf")}
    record_evaluation(tmp_path, "fid", DIGEST, scores, protocol)
    assert record(tmp_path)["scores"] == {"a": {"value": 0.5}, "b": {"value": None}}
    plain = {"out": str(tmp_path), "counts": [1, 2], "pair": [1, True], "inf": None}
    assert record(tmp_path)["protocol"] == plain and record(tmp_path)["run"] is None


def test_a_folder_holds_one_evaluation_of_each_kind(tmp_path: Path) -> None:
    for kind, digest in (("fid", DIGEST), ("spectra", DIGEST), ("spectra", BEST)):
        record_evaluation(tmp_path, kind, digest, {}, {})
    found = {path.name: read_json(path)["model"] for path in find_evaluations(tmp_path)}
    assert found == {"evaluation_run.json": DIGEST, "evaluation_run-spectra.json": BEST}


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no trained model"):
        record_evaluation(tmp_path, "fid", tmp_path, {}, {})


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("frechet_efficientnet_lite0/all_200", "frechet_efficientnet_lite0/all_200"),
        ("r, lung, air_fraction", "r/lung/air_fraction"),
        ("Skin - Not Sun Exposed (Suprapubic)", "Skin - Not Sun Exposed _Suprapubic_"),
        ("/a//b/../c%", "a/b/__/c_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_that_mlflow_takes(name: str, allowed: str) -> None:
    assert allowed_name(name) == allowed == allowed_name(allowed)


def test_the_switch_for_tests_is_on_here() -> None:
    assert evaluations._mirror(Path("nowhere")) is None
