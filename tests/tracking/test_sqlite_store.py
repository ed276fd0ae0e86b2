"""Stores of MLflow that a killed process left half-made, and stores that can't be used now."""

import contextlib
import os
import shutil
import sqlite3
import time
import warnings
from pathlib import Path

import pytest

from rnagan.config.vae import VAEConfig
from rnagan.tracking.mlflow_store import tracking_uri
from rnagan.tracking.run_log import RunLog
from rnagan.tracking.sqlite_store import set_aside_half_made
from rnagan.tracking.sync import sync_mlflow
from tests.disks import read_only


def half_made(path: Path, store: Path, state: str) -> None:
    """What is left of the making of `store`, as it was last touched a minute ago."""
    shutil.copy(store, path)
    with contextlib.closing(sqlite3.connect(path)) as file:
        if state == "first tables":
            file.execute("DROP TABLE alembic_version")
        if state in ("first tables", "migrations"):
            file.execute("DELETE FROM experiments")
        file.commit()
    if state == "no database":
        path.write_bytes(b"Disk quota exceeded" * 100)
    if state == "half a file":
        os.truncate(path, 5000)
    os.utime(path, (time.time() - 60,) * 2)


@pytest.mark.attack(kind=7, ends="unharmed")
@pytest.mark.parametrize("state", ["first tables", "migrations", "no database", "half a file"])
def test_a_half_made_store_is_set_aside(tmp_path: Path, mlflow_store: Path, state: str) -> None:
    path = tmp_path / "mlflow.db"
    for number in (1, 2):
        half_made(path, mlflow_store, state)
        with pytest.warns(UserWarning, match=rf"mlflow\.db .*; it is mlflow\.db\.damaged-{number} now, and a new one"):
            set_aside_half_made(path)
        assert not path.exists() and (tmp_path / f"mlflow.db.damaged-{number}").is_file()


@pytest.mark.parametrize("state", ["whole", "empty", "none", "locked"])
def test_other_stores_stay(tmp_path: Path, mlflow_store: Path, state: str) -> None:
    path = tmp_path / "mlflow.db"
    if state == "empty":
        path.touch()
    elif state != "none":
        shutil.copy(mlflow_store, path)
    with warnings.catch_warnings(), contextlib.ExitStack() as held:
        warnings.simplefilter("error")
        if state == "locked":
            file = held.enter_context(contextlib.closing(sqlite3.connect(path)))
            file.execute("BEGIN EXCLUSIVE")
        set_aside_half_made(path)
    assert path.exists() == (state != "none") and len(list(tmp_path.glob("*.damaged*"))) == 0


@pytest.mark.attack(kind=7, ends="unharmed")
def test_one_that_is_being_made_is_waited_for(
    tmp_path: Path, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    half_made(path, mlflow_store, "migrations")
    path.touch()
    monkeypatch.setattr(time, "sleep", lambda _: shutil.copy(mlflow_store, path))  # the other one is done
    set_aside_half_made(path)
    assert path.read_bytes() == mlflow_store.read_bytes() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.attack(kind=7, ends="unharmed")
@pytest.mark.slow
@pytest.mark.guard
def test_sync_goes_on_after_a_store_that_was_killed_in_the_making(
    mlflow_runs: Path, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        log = RunLog(mlflow_runs / "run", VAEConfig(latent=6), "rnagan-vae", main=True)
        log.metrics(8, {"loss": 2.0})
        log.close()
    half_made(mlflow_runs / "mlflow.db", mlflow_store, "first tables")
    with pytest.warns(UserWarning, match="its making was interrupted"):
        assert "a new run with" in sync_mlflow(mlflow_runs / "run")
    assert sync_mlflow(mlflow_runs / "run").endswith("MLflow is up to date, finished.")


@pytest.fixture
def unsynced(mlflow_runs: Path) -> Path:
    log = RunLog(mlflow_runs / "run", VAEConfig(latent=6), "rnagan-vae", main=True)
    log.close()
    log.folder.joinpath("run.json").unlink()
    return mlflow_runs


@pytest.mark.attack(kind=7)
@pytest.mark.slow  # sqlite waits 20 s for the lock
@pytest.mark.guard
def test_sync_of_a_locked_store_is_one_sentence(unsynced: Path) -> None:
    with contextlib.closing(sqlite3.connect(unsynced / "mlflow.db")) as file:
        file.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=r"can't be brought up to date with .*database is locked") as locked:
            sync_mlflow(unsynced / "run")
        assert time.monotonic() - began < 60 and "\n" not in str(locked.value)


@pytest.mark.attack(kind=7)
def test_sync_of_a_read_only_store_is_one_sentence(unsynced: Path, tmp_path: Path) -> None:
    with read_only(unsynced, tmp_path / "seen") as seen, pytest.raises(OSError, match="Read-only"):
        assert tracking_uri(seen / "run").startswith("sqlite")
        sync_mlflow(seen / "run")
