"""The MLflow store of a run's folder: where it is, and its experiments, runs and sweeps."""

import contextlib
import getpass
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from rnagan.io.files import read_json
from rnagan.tracking.mlflow_limits import NAME_LENGTH, allowed_text, bound
from rnagan.tracking.sqlite_store import set_aside_half_made

LOCK_SECONDS = 60.0  # that a process waits for another one which sets the same sqlite store up
SETTLE_SECONDS = 1.0  # in which processes that began a sweep together see one another on a server

EXPERIMENTS = {"gan": "rnagan", "flow": "rnagan-flow", "vae": "rnagan-vae", "simclr": "simclr"}  # by kind of run
EVALUATION = "evaluation"  # the tag `kind` of an evaluation's run
RECORD_COPY = "record.json"  # of an evaluation in MLflow; in folders it has another name, so nobody finds it twice
MODEL_TAGS = ("model_digest", "best_model_digest")  # of a run: of its folders model and model-best


def has_store(folder: Path) -> bool:
    """Whether a run's folder has a store at all: a server, or an sqlite file that is there."""
    path = _sqlite_path(tracking_uri(folder))
    return path is None or path.is_file()


def recorded_evaluations(folder: Path, digests: Iterable[str]) -> list[tuple[Path, dict[str, Any]]]:
    """The folders and records of all evaluations of these models in the store of a run's folder.

    Raises whatever MLflow raises where it can't be reached.
    """
    with opened_store(folder) as (client, _):
        homes, found = experiment_ids(client), []
        for digest in digests:
            query = f"tags.kind = '{EVALUATION}' and tags.model_digest = '{digest}'"
            for run in client.search_runs(homes, query) if homes else ():
                with tempfile.TemporaryDirectory() as scratch:
                    copy = client.download_artifacts(run.info.run_id, RECORD_COPY, scratch)
                    found.append((Path(run.data.tags["folder"]), read_json(copy, dict[str, Any])))
    return found


def tracking_uri(run: Path) -> str:
    """Where MLflow keeps a run: what MLFLOW_TRACKING_URI says, or the store beside it."""
    return os.environ.get("MLFLOW_TRACKING_URI", default_tracking_uri(run))


def shown(uri: str) -> str:
    """A tracking URI without the user and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", uri)


def default_tracking_uri(run: Path) -> str:
    """The sqlite store beside a run, shared by its siblings."""
    return f"sqlite:///{Path(run).resolve().parent / 'mlflow.db'}"


def user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


@contextlib.contextmanager
def opened_store(folder: Path) -> Iterator[tuple[Any, bool]]:
    """A client of the store of a run's folder, and whether an sqlite store is held for this process alone."""
    # A server that is down would otherwise hold the start up for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # commands print their own results
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # nobody asks how a store makes its tables
    from mlflow import MlflowClient

    uri = tracking_uri(folder)
    with _set_up_alone(uri) as alone:
        yield MlflowClient(tracking_uri=uri), alone


def experiment_id(client: Any, name: str, folder: Path) -> str:
    """Id of the experiment of that name, made where there is none, once however many ask."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=_artifact_root(tracking_uri(folder), folder))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:  # not that another process was faster
                raise
    return found.experiment_id


def experiment_ids(client: Any) -> list[str]:
    """Ids of the experiments of all kinds of runs, as far as the store has them."""
    found = [client.get_experiment_by_name(name) for name in EXPERIMENTS.values()]
    return [experiment.experiment_id for experiment in found if experiment is not None]


def known_run(client: Any, homes: list[str], known: str | None, key: str) -> str | None:
    from mlflow.exceptions import MlflowException

    if known is not None:
        try:
            if client.get_run(known).info.lifecycle_stage == "active":
                return known
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    found = client.search_runs(homes, f"tags.run_key = '{key}'", max_results=1)
    return found[0].info.run_id if found else None


def run_of_model(client: Any, homes: list[str], record: Mapping[str, Any]) -> Any | None:
    """The training run of an evaluated model, or None where the store has none."""
    if not homes:
        return None
    run, digest = record["run"] or {}, record["model"]
    filters = [f"tags.run_key = '{run['key']}'"] if run.get("key") else []
    filters += [f"tags.{name} = '{digest}'" for name in MODEL_TAGS]
    for each in filters:
        found = client.search_runs(homes, each, order_by=["attributes.start_time DESC"])
        trained = [run for run in found if run.data.tags.get("kind") != EVALUATION]
        if trained:
            return trained[0]
    return None


def sweep_run(client: Any, home: str, sweep: str, settle_seconds: float) -> str:
    """Id of the run that stands for a sweep, made where there is none.

    MLflow has no way to make a run unless there is one. Where processes that start together aren't kept apart by a
    lock, each makes one, waits until it can see the others', and all keep the oldest; two remain only where one took
    longer than `settle_seconds` to make its own.
    """
    sweep = allowed_text(sweep, bound("MAX_TAG_VAL_LENGTH"))

    def there() -> list[Any]:
        found = client.search_runs([home], "tags.kind = 'sweep'", order_by=["attributes.start_time ASC"])
        own = [run for run in found if run.data.tags["sweep"] == sweep]
        return sorted(own, key=lambda run: (run.info.start_time, run.info.run_id))

    oldest = there()
    if not oldest:
        tags = {"kind": "sweep", "sweep": sweep, "mlflow.user": user_name()}
        made = client.create_run(home, run_name=allowed_text(sweep, NAME_LENGTH), tags=tags)
        time.sleep(settle_seconds)
        oldest = there() or [made]
        if oldest[0].info.run_id != made.info.run_id:
            client.delete_run(made.info.run_id)
    return oldest[0].info.run_id


@contextlib.contextmanager
def _set_up_alone(uri: str) -> Iterator[bool]:
    """Hold an sqlite store for this process alone, or nothing of a server; yields whether.

    Two processes on a fresh sqlite file would race its migration.
    """
    path = _sqlite_path(uri)
    if path is None:
        yield False
        return
    with filelock.FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
        set_aside_half_made(path)
        yield True


def _sqlite_path(uri: str) -> Path | None:
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return None if path == uri else Path(path)


def _artifact_root(uri: str, run: Path) -> str | None:
    return (Path(run).resolve().parent / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
