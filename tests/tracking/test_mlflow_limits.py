"""Texts that are longer than MLflow takes are cut in a real store, and are whole in the run's folder."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest

from rnagan.config.gan import GANConfig
from rnagan.io.files import read_yaml
from rnagan.tracking.mlflow_limits import allowed_name, allowed_text, batches
from rnagan.tracking.mlflow_run import MLflowRun
from rnagan.tracking.mlflow_store import default_tracking_uri
from rnagan.tracking.run_folder import read_record
from rnagan.tracking.run_log import RunLog
from rnagan.tracking.sync import sync_mlflow

LONG = {
    "where": "tissue=" + ",".join(f"Lung of centre {n}" for n in range(1000)),
    "tissue_weights": ",".join(f"Brain {n} (ü)=1" for n in range(1000)),
}
TAGS = {"cohort": "/data/" + "a" * 9000, "note": "é" * 6000, "sweep": "s" * 8500, "short": "as it is"}


def client_of(run: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=default_tracking_uri(run))


@pytest.mark.parametrize("tag_length", [None, 5000])  # as installed, and as older versions have it
def test_what_is_too_long_for_mlflow_is_cut_and_whole_in_the_folder(
    mlflow_runs: Path, monkeypatch: pytest.MonkeyPatch, tag_length: int | None
) -> None:
    from mlflow.utils import validation

    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")  # too long is then an error
    if tag_length is not None:
        monkeypatch.setattr(validation, "MAX_TAG_VAL_LENGTH", tag_length)
    longest, longest_tag = validation.MAX_PARAM_VAL_LENGTH, validation.MAX_TAG_VAL_LENGTH
    run, config = mlflow_runs / ("r" * 200) / ("u" * 200), GANConfig(**LONG)
    (run.parent).mkdir()
    (mlflow_runs / "mlflow.db").rename(run.parent / "mlflow.db")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # that MLflow can't be reached
        log = RunLog(run, config, "toy", main=True, tags=TAGS)
        log.metrics(8, {"r, " + "lung " * 80: 0.5})
        log.close()
    found = client_of(run).get_run(log.run_id)
    assert read_yaml(run / "config.yaml")["where"] == LONG["where"] and read_record(run)["tags"]["note"] == TAGS["note"]
    for name, whole in LONG.items():
        cut = found.data.params[name]
        assert len(cut) == longest and cut.endswith(" …") and whole.startswith(cut[:-2])
    for name in ("cohort", "note"):
        assert found.data.tags[name] == allowed_text(TAGS[name], longest_tag)
        assert len(found.data.tags[name]) == min(len(TAGS[name]), longest_tag)
    assert found.data.tags["short"] == "as it is" and found.data.tags["folder"] == str(run)
    assert list(found.data.metrics.values()) == [0.5] and len(found.info.run_name) == 250
    assert "MLflow is up to date" in sync_mlflow(run)  # a cut text is no other one
    second = RunLog(run.parent / "second", config, "toy", main=True, tags=TAGS)
    parent = client_of(run).get_run(second.run_id).data.tags["mlflow.parentRunId"]
    assert parent == found.data.tags["mlflow.parentRunId"]  # one sweep, whose name was cut


def test_many_tags_and_large_batches_go_in_parts(mlflow_runs: Path) -> None:
    log = RunLog(mlflow_runs / "run", GANConfig(), "toy", main=True)
    run = MLflowRun(client_of(log.folder), log.run_id or "")
    assert run.tags({f"tag {n}": "x" for n in range(250)}) == 250
    assert run.settings({f"setting {n}": "ü" * 6000 for n in range(40)}) == 40
    assert run.tags({f"tag {n}": "x" for n in range(250)}) == 0


@dataclasses.dataclass
class Entity:
    key: str
    value: str


def test_batches_keep_the_order_and_both_bounds() -> None:
    entities = [Entity(str(n), "x" * (n % 7 * 10)) for n in range(50)]
    parts = list(batches(entities, 4, 120))
    assert [each for part in parts for each in part] == entities and max(map(len, parts)) == 4
    assert all(len(part) == 1 or sum(len(each.value) for each in part) <= 120 for part in parts)
    assert [len(part) for part in batches([Entity("a", "x" * 500)] * 3, 4, 120)] == [1, 1, 1]


def test_a_name_that_is_cut_stays_a_path() -> None:
    cut = allowed_name("a" * 249 + "/b")
    assert cut == "a" * 249 == allowed_name(cut)
