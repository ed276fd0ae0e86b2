"""MLflow brought up to date from folders of runs and evaluations, and sweeps; on real sqlite stores."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rnagan.config.simclr import SimCLRConfig
from rnagan.config.vae import VAEConfig
from rnagan.io.files import read_json, write_json
from rnagan.tracking import mlflow_store
from rnagan.tracking.evaluations import record_evaluation
from rnagan.tracking.mlflow_store import default_tracking_uri
from rnagan.tracking.run_folder import read_metrics, read_record
from rnagan.tracking.run_log import RunLog
from rnagan.tracking.sync import sync_folders, sync_mlflow

ROOT = Path(__file__).parents[2]
CONFIG = VAEConfig(latent=6)


def client_of(run: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=default_tracking_uri(run))


def found_run(run: Path) -> Any:
    return client_of(run).get_run(read_record(run)["mlflow_run"])


def history(run: Path, name: str) -> list[tuple[int, float]]:
    points = client_of(run).get_metric_history(found_run(run).info.run_id, name)
    return sorted((point.step, point.value) for point in points)


def log_of(run: Path, **options: Any) -> RunLog:
    return RunLog(run, CONFIG, "rnagan-vae", main=True, **options)


def test_a_run_that_no_server_saw_is_brought_there_once(mlflow_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = mlflow_runs / "lonely"
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match=r"rnagan sync-mlflow .*lonely"):
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        log = log_of(run, tags={"kind": "vae", "preset": "faithful"}, total=16, made_from={"expression": "abc"})
        for images in (8, 16):
            log.metrics(images, {"loss": 1 / images, "gone": float("nan")})
        log.close(finished=False)
    (run / "samples").mkdir()
    (run / "samples/000000000016.png").write_bytes(b"tile")
    assert "settings, 4 values, 2 files" in sync_mlflow(run)
    found = found_run(run)
    assert found.info.status == "KILLED" and found.data.params["latent"] == "6"
    assert found.data.tags["preset"] == "faithful" and found.data.tags["resumed"] == "0"
    assert history(run, "loss") == [(8, 1 / 8), (16, 1 / 16)]
    assert [each.path for each in client_of(run).list_artifacts(found.info.run_id, "samples")] == [
        "samples/000000000016.png"
    ]
    assert sync_mlflow(run).endswith("MLflow is up to date, killed.")
    assert history(run, "loss") == [(8, 1 / 8), (16, 1 / 16)] and len(history(run, "gone")) == 2
    (run / "run.json").unlink()  # as a version before wrote it: no key, no tags
    sync_mlflow(run)
    assert history(run, "loss") == [(8, 1 / 8), (16, 1 / 16)]


def test_a_resumed_run_keeps_its_mlflow_run_and_what_was_done_again_is_the_newer(mlflow_runs: Path) -> None:
    run = mlflow_runs / "run"
    log = log_of(run)
    log.metrics(8, {"loss": 3.0})
    log.metrics(16, {"loss": 2.0})
    first = log.run_id
    # The process dies here. MLflow is away while the rest is trained.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        again = RunLog(run, CONFIG.replace(threads=3), "rnagan-vae", main=True, resumed_at=8)
        again.metrics(16, {"loss": 5.0})
        again.close()
    sync_mlflow(run)
    found = found_run(run)
    assert found.info.run_id == first and found.data.tags["resumed"] == "1"
    assert found.data.metrics["loss"] == 5.0 and history(run, "loss") == [(8, 3.0), (16, 2.0), (16, 5.0)]
    assert found.data.params["threads"] == "0" and found.data.tags["settings_changed"] == "threads 0 → 3"
    assert sync_mlflow(run).endswith("MLflow is up to date, finished.")


def test_a_run_resumed_on_another_store_brings_its_rows_along(mlflow_runs: Path, mlflow_store: Path) -> None:
    log = log_of(mlflow_runs / "run")
    log.metrics(8, {"loss": 3.0})
    moved = mlflow_runs.parent / "elsewhere"
    shutil.copytree(mlflow_runs / "run", moved / "run")
    shutil.copy(mlflow_store, moved / "mlflow.db")
    log_of(moved / "run", resumed_at=8, run_id=log.run_id).metrics(16, {"loss": 2.0})
    assert history(moved / "run", "loss") == [(8, 3.0), (16, 2.0)]
    assert history(mlflow_runs / "run", "loss") == [(8, 3.0)]


def test_runs_of_a_sweep_are_children_of_one_run_also_when_they_start_together(mlflow_runs: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        logs = list(pool.map(lambda k: log_of(mlflow_runs / f"r{k}", tags={"sweep": "it's lr"}), range(3)))
    other = log_of(mlflow_runs / "other", tags={"sweep": "beta"})
    client = client_of(mlflow_runs / "r0")
    found = {log.folder.name: found_run(log.folder) for log in (*logs, other)}
    parents = {name: run.data.tags["mlflow.parentRunId"] for name, run in found.items()}
    assert len({parents[f"r{k}"] for k in range(3)}) == 1 and parents["other"] != parents["r0"]
    sweep = client.get_run(parents["r0"])
    assert sweep.info.run_name == "it's lr" and sweep.info.status == "RUNNING" and sweep.data.tags["kind"] == "sweep"
    for log in logs[:2]:
        log.close()
    assert client.get_run(parents["r0"]).info.status == "RUNNING"
    logs[2].close(finished=False, failed=True)
    assert client.get_run(parents["r0"]).info.status == "FINISHED" and found_run(logs[2].folder).info.status == "FAILED"
    resumed = log_of(mlflow_runs / "r0", resumed_at=0)  # the sweep is in its record
    assert found_run(resumed.folder).data.tags["mlflow.parentRunId"] == parents["r0"]
    assert client.get_run(parents["r0"]).info.status == "RUNNING"
    resumed.close()
    log_of(mlflow_runs / "r0", resumed_at=0, tags={"sweep": "beta"})
    assert found_run(resumed.folder).data.tags["mlflow.parentRunId"] == parents["other"]


def test_without_a_lock_the_oldest_of_two_sweep_runs_is_kept(mlflow_runs: Path) -> None:
    """As on a server: each process finds no run of the sweep, and makes one."""
    client = client_of(mlflow_runs / "r")
    home = client.create_experiment("e")
    with ThreadPoolExecutor(3) as pool:
        kept = list(pool.map(lambda _: mlflow_store.sweep_run(client, home, "lr", 0.5), range(3)))
    assert len(set(kept)) == 1
    assert [run.info.run_id for run in client.search_runs([home], "tags.kind = 'sweep'")] == kept[:1]


def test_a_run_that_was_deleted_in_mlflow_is_made_anew(mlflow_runs: Path) -> None:
    log = log_of(mlflow_runs / "run")
    log.metrics(8, {"loss": 3.0})
    log.close()
    client_of(log.folder).delete_run(log.run_id)
    assert "a new run with" in sync_mlflow(log.folder)
    assert found_run(log.folder).info.run_id != log.run_id and history(log.folder, "loss") == [(8, 3.0)]


def test_sync_says_that_no_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        log_of(tmp_path / "run").metrics(8, {"loss": 1.0})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(
        ConnectionError, match=r"MLflow at http://127\.0\.0\.1:9 can't be brought up to date with .*run"
    ):
        sync_mlflow(tmp_path / "run")
    assert [row["images"] for row in read_metrics(tmp_path / "run")] == [8]


@pytest.mark.usefixtures("no_mlflow")
def test_runs_and_their_evaluations_are_brought_up_wherever_they_lie(mlflow_runs: Path, tmp_path: Path) -> None:
    run, other = mlflow_runs / "run", tmp_path / "evaluations/spectra"
    log_of(run, tags={"kind": "vae"}).close()
    write_json(run / "model/model.json", {"digest": "a" * 64})
    record_evaluation(run / "vae", "vae", run, {"rmse": {"value": 0.5}}, {"split": "test"})
    record_evaluation(other, "spectra", run / "model", {"distance": {"value": 2.0}}, {})
    lines = list(sync_folders([mlflow_runs, other.parent]))
    assert [line.partition(":")[0] for line in lines] == [str(run), str(run / "vae"), str(other)]
    assert lines[1].endswith("vae: vae: 1 settings, 1 values, 1 files, 6 tags brought to MLflow.")
    for out in (run / "vae", other):
        mlflow_id = read_json(out / "evaluation_run.json")["mlflow_run"]
        tags = client_of(run).get_run(mlflow_id).data.tags
        assert tags["mlflow.parentRunId"] == found_run(run).info.run_id and tags["kind"] == "evaluation"
    assert all("MLflow is up to date" in line for line in sync_folders([run, other, mlflow_runs, other.parent]))
    assert len(list(sync_folders([run, other, mlflow_runs, other.parent]))) == 3  # each once
    client_of(run).delete_run(mlflow_id)
    assert "brought to MLflow" in next(sync_folders([other]))  # made anew, from its own folder alone
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        list(sync_folders([run, tmp_path / "nowhere"]))


def test_an_evaluation_that_no_server_takes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_evaluation(tmp_path / "fid", "fid", "a" * 64, {}, {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(
        ConnectionError, match=r"MLflow at http://127\.0\.0\.1:9 can't be brought up to date with .*fid"
    ):
        list(sync_folders([tmp_path]))


@pytest.mark.usefixtures("no_mlflow")
def test_a_run_of_simclr_is_brought_up_and_found_by_its_backbone(mlflow_runs: Path) -> None:
    run = mlflow_runs / "simclr"
    log = RunLog(run, SimCLRConfig(), "simclr", main=True, total=512, made_from={"shards": "abc"})
    log.metrics(256, {"loss": 1.0})
    log.close(finished=False)
    assert sync_mlflow(run).endswith("killed.")
    write_json(run / "backbone.json", {"digest": "d" * 64, "images": 512})
    record_evaluation(run / "folds", "classifier_folds", run, {"accuracy": {"value": 0.9}}, {})
    lines = list(sync_folders([run]))
    assert lines[0].endswith("finished.") and found_run(run).data.tags["model_digest"] == "d" * 64
    assert client_of(run).get_experiment(found_run(run).info.experiment_id).name == "simclr"
    evaluation = client_of(run).get_run(read_json(run / "folds/evaluation_run.json")["mlflow_run"])
    assert evaluation.data.tags["mlflow.parentRunId"] == found_run(run).info.run_id


@pytest.mark.slow
@pytest.mark.guard
def test_two_processes_that_start_together_on_a_fresh_store_have_one_sweep(tmp_path: Path) -> None:
    """They race for the store's migration, the experiment and the sweep's run."""
    program = (
        "import sys; from pathlib import Path; from rnagan.config.vae import VAEConfig\n"
        "from rnagan.tracking.run_log import RunLog\n"
        "log = RunLog(Path(sys.argv[1]), VAEConfig(), 'rnagan-vae', main=True, tags={'sweep': 'lr'})\n"
        "log.metrics(8, {'loss': 1.0}); log.close()"
    )
    runs = [tmp_path / f"r{k}" for k in range(2)]
    command = [sys.executable, "-W", "error::UserWarning", "-c", program]
    started = [subprocess.Popen([*command, str(run)], cwd=ROOT, stderr=subprocess.PIPE, text=True) for run in runs]
    assert [(process.communicate()[1], process.returncode)[1] for process in started] == [0, 0]
    assert len({found_run(run).data.tags["mlflow.parentRunId"] for run in runs}) == 1
    assert {json.loads((run / "run.json").read_text())["status"] for run in runs} == {"FINISHED"}
