import contextlib
import json
import resource
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnagan.config.vae import VAEConfig
from rnagan.tracking.mlflow_store import default_tracking_uri
from rnagan.tracking.run_folder import read_metrics
from rnagan.tracking.run_log import RunLog
from tests.tracking.server import Server

CONFIG = VAEConfig(latent=6)


def images(run: Path) -> list[int]:
    return [row["images"] for row in read_metrics(run)]


def test_real_mlflow_mirrors_the_folder(mlflow_runs: Path) -> None:
    from mlflow import MlflowClient

    run = mlflow_runs / "first"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # the warning of an unreachable server
        log = RunLog(run, CONFIG, "toy", main=True, tags={"mode": "gan"})
        log.metrics(8, {"loss": 2.0})
        log.metrics(16, {"loss": 1.0})
        (run / "samples").mkdir()
        (run / "samples/a.txt").write_text("tile")
        log.artifact(run / "samples/a.txt")
        log.close(finished=False)
        resumed = RunLog(run, CONFIG, "toy", main=True, resumed_at=8, run_id=log.run_id)
        resumed.metrics(16, {"loss": 0.5})
        resumed.close()
    client = MlflowClient(tracking_uri=default_tracking_uri(run))
    found = client.get_run(log.run_id)
    assert resumed.run_id == log.run_id and found.info.status == "FINISHED" and found.info.run_name == "runs/first"
    assert found.data.params["latent"] == "6" and found.data.tags["mode"] == "gan" and found.data.tags["resumed"] == "1"
    assert found.data.metrics["loss"] == 0.5
    assert client.get_experiment(found.info.experiment_id).name == "toy"
    assert [entry.path for entry in client.list_artifacts(log.run_id, "samples")] == ["samples/a.txt"]
    assert [(row["images"], row["loss"]) for row in read_metrics(run)] == [(8, 2.0), (16, 0.5)]


def test_unreachable_server_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match=r"MLflow is not reachable .* its record is in .*run") as warned:
        log = RunLog(tmp_path / "run", CONFIG, "toy", main=True)
        for count in (8, 16):
            log.metrics(count, {"loss": 1 / count})
        log.artifact(tmp_path / "run/config.yaml")
        log.close()
    assert len([w for w in warned if "MLflow" in str(w.message)]) == 1
    assert images(tmp_path / "run") == [8, 16] and log.run_id is None


def test_server_that_fails_later_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        calls = 0

        def log(self, *_: object) -> None:
            self.calls += 1
            raise ConnectionError("gone")

    client = Failing()
    monkeypatch.setattr(RunLog, "_start_mlflow", lambda self, *_: setattr(self, "_mlflow", client))
    log = RunLog(tmp_path, CONFIG, "toy", main=True)
    with pytest.warns(UserWarning, match=r"ConnectionError: gone"):
        log.metrics(8, {"loss": 1.0})
    log.metrics(16, {"loss": 1.0})
    assert client.calls == 1 and images(tmp_path) == [8, 16]


@pytest.mark.usefixtures("no_mlflow")
def test_record_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    log = RunLog(tmp_path, CONFIG, "toy", main=True)
    for count in (8, 16, 24):
        log.metrics(count, {"loss": 1.0})
    with open(tmp_path / "metrics.jsonl", "a") as handle:
        handle.write('{"images": 32, "lo')  # the power failed
    assert images(tmp_path) == [8, 16, 24]
    RunLog(tmp_path, CONFIG, "toy", main=True, resumed_at=16).metrics(24, {"loss": 2.0})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [8, 16, 24]
    RunLog(tmp_path, CONFIG, "toy", main=True)
    assert images(tmp_path) == []


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run", CONFIG, "toy", main=False)
    log.metrics(8, {"loss": 1.0})
    log.artifact(Path("anything"))
    log.close()
    assert not (tmp_path / "run").exists()


def test_seconds_go_on_where_the_checkpoint_left_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunLog, "_start_mlflow", lambda *_: None)
    RunLog(tmp_path, CONFIG, "toy", main=True)
    (tmp_path / "metrics.jsonl").write_text('{"images": 8, "seconds": 100.0}\n{"images": 16, "seconds": 200.0}\n')
    RunLog(tmp_path, CONFIG, "toy", main=True, resumed_at=8).metrics(16, {})
    assert 100.0 <= read_metrics(tmp_path)[-1]["seconds"] < 130.0


@pytest.mark.usefixtures("no_mlflow")
def test_rows_that_a_full_disk_does_not_take_are_written_later(tmp_path: Path) -> None:
    """A file may grow to 4 KiB only, as on a disk with so much room: a row is written whole or not at all."""
    log = RunLog(tmp_path, CONFIG, "toy", main=True)
    log.metrics(8, {"loss": 1.0})
    with only_so_large(4096), pytest.warns(UserWarning, match="No row of metrics can be written to") as warned:
        for count in range(16, 816, 8):
            log.metrics(count, {"loss": 1.0})
    assert len(warned) == 1
    assert 8 < len(images(tmp_path)) < 101 and (tmp_path / "metrics.jsonl").stat().st_size < 4096
    assert (tmp_path / "metrics.jsonl").read_text().endswith("}\n")
    log.metrics(816, {"loss": 1.0})
    assert images(tmp_path) == list(range(8, 824, 8))


@contextlib.contextmanager
def only_so_large(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.slow
@pytest.mark.guard
def test_server_that_dies_in_mid_run_neither_kills_nor_stalls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path)
    try:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        log = RunLog(tmp_path / "run", CONFIG, "toy", main=True)
        log.metrics(8, {"loss": 1.0})
        assert log.run_id is not None
    finally:
        server.stop()
    began = time.monotonic()
    with pytest.warns(UserWarning, match="MLflow is not reachable") as warned:
        for count in (16, 24, 32):
            log.metrics(count, {"loss": 1.0})
        log.close()
    assert len(warned) == 1 and time.monotonic() - began < 20
    assert images(tmp_path / "run") == [8, 16, 24, 32]
