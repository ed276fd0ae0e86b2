"""One run in an MLflow store, of a training or of an evaluation: found or made, and brought up to date."""

import contextlib
import getpass
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import click
import filelock

from rnagan.io.disk_errors import in_words
from rnagan.io.files import read_json
from rnagan.tracking.mlflow_limits import NAME_LENGTH, allowed_name, allowed_text, batches
from rnagan.tracking.sqlite_store import set_aside_half_made

LOCK_SECONDS = 60.0  # that a process waits for another one which sets the same sqlite store up
SETTLE_SECONDS = 1.0  # in which processes that began a sweep together see one another on a server
# What MLflow takes, by its own names; the figures are for a version that doesn't say it.
_BOUNDS = {
    "MAX_PARAM_VAL_LENGTH": 6000,
    "MAX_TAG_VAL_LENGTH": 5000,
    "MAX_PARAMS_TAGS_PER_BATCH": 100,
    "MAX_METRICS_PER_BATCH": 1000,
    "MAX_BATCH_LOG_REQUEST_SIZE": 1_000_000,  # bytes
}

EXPERIMENTS = {
    "gan": "rnagan",
    "flow": "rnagan-flow",
    "vae": "rnagan-vae",
    "simclr": "simclr",
}  # of MLflow, by kind of run

EVALUATION = "evaluation"  # the tag `kind` of an evaluation's run
RECORD_COPY = "record.json"  # of an evaluation in MLflow; in folders it has another name, so nobody finds it twice
MODEL_TAGS = ("model_digest", "best_model_digest")  # of a run: of its folders model and model-best

Point = tuple[str, float, int, float]  # metric, value, images, Unix time


class MLflowRun:
    """One run in an MLflow store."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id = client, run_id

    @classmethod
    def open(cls, folder: Path, record: Mapping[str, Any], known: str | None) -> tuple[Self, bool]:
        """The MLflow run of a run folder, and whether it was made just now.

        It is the one of id `known` or the one that has the record's key for a tag; a run deleted in MLflow is none.
        """
        with _store(folder) as (client, alone):
            home = _experiment(client, record["experiment"], folder)
            tags = {}
            if sweep := record["tags"].get("sweep"):
                tags["mlflow.parentRunId"] = _sweep_run(client, home, sweep, 0.0 if alone else SETTLE_SECONDS)
            found = _known_run(client, [home], known, record["key"])
            path = folder.resolve()
            return cls._found_or_made(client, home, found, path, f"{path.parent.name}/{path.name}", record, tags)

    @classmethod
    def open_evaluation(cls, out: Path, record: Mapping[str, Any], beside: Path) -> tuple[Self, bool]:
        """The MLflow run of an evaluation in the folder `out`, and whether it was made just now.

        It is a child of the run of the evaluated model, which has the key `record["run"]["key"]` or a tag with the
        digest of the model. Where the store knows no such run, it stands alone. `beside`: the folder whose store is
        used.
        """
        with _store(beside) as (client, _):
            homes = _experiments(client)
            parent = _run_of_model(client, homes, record)
            home = _experiment(client, EXPERIMENTS["gan"], beside) if parent is None else parent.info.experiment_id
            found = _known_run(client, [*{*homes, home}], record["mlflow_run"], record["key"])
            tags = {} if parent is None else {"mlflow.parentRunId": parent.info.run_id}
            path = out.resolve()
            name = f"{record['kind']}: {path.parent.name}/{path.name}"
            return cls._found_or_made(client, home, found, path, name, record, tags)

    @classmethod
    def _found_or_made(
        cls,
        client: Any,
        home: str,
        found: str | None,
        folder: Path,
        name: str,
        record: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> tuple[Self, bool]:
        """The run of id `found` with these tags, or a new one."""
        if found is not None:
            cls(client, found).tags(tags)
            return cls(client, found), False
        own = {"run_key": record["key"], "folder": str(folder), "mlflow.user": _user()}
        own |= {"mlflow.source.name": _command(), "mlflow.source.type": "LOCAL"}
        own = _allowed_tags(own | dict(tags))
        made = client.create_run(home, round(1000 * record["began"]), own, allowed_text(name, NAME_LENGTH))
        return cls(client, made.info.run_id), True

    def begin(self, settings: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Say that it is running, and which settings and tags it has."""
        self.client.update_run(self.run_id, status="RUNNING")
        if parent := self._sweep():
            self.client.update_run(parent, status="RUNNING")
        self.settings(settings)
        self.tags(tags)

    def end(self, status: str, tags: Mapping[str, str], seconds: float | None = None) -> None:
        """End it, at a Unix time or now; its sweep ends with the last of its runs."""
        self.tags(tags)
        if self._run().info.status != status:
            self.client.set_terminated(self.run_id, status, None if seconds is None else round(1000 * seconds))
        if parent := self._sweep():
            running = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
            still = self.client.search_runs([self._run().info.experiment_id], running, max_results=1)
            if not still and self.client.get_run(parent).info.status != "FINISHED":
                self.client.set_terminated(parent, "FINISHED")

    def settings(self, settings: Mapping[str, Any]) -> int:
        """Log the parameters that it hasn't, and return how many. MLflow changes none: the tag
        `settings_changed` has those that changed."""
        from mlflow.entities import Param

        there = self._run().data.params
        longest = _bound("MAX_PARAM_VAL_LENGTH")
        now = {allowed_name(name): allowed_text(str(value), longest) for name, value in settings.items()}
        new = [Param(name, value) for name, value in now.items() if name not in there]
        changed = [f"{name} {there[name]} → {now[name]}" for name in now if there.get(name, now[name]) != now[name]]
        self._send("params", new)
        if changed:
            self.tags({"settings_changed": ", ".join(changed)})
        return len(new)

    def tags(self, tags: Mapping[str, str]) -> int:
        """Set the tags that it hasn't so, and return how many."""
        from mlflow.entities import RunTag

        there = self._run().data.tags
        new = [RunTag(name, value) for name, value in _allowed_tags(tags).items() if there.get(name) != value]
        self._send("tags", new)
        return len(new)

    def log(self, points: list[Point]) -> None:
        """Log values of metrics."""
        from mlflow.entities import Metric

        metrics = [Metric(allowed_name(name), value, round(1000 * at), images) for name, value, images, at in points]
        self._send("metrics", metrics)

    def log_missing(self, points: list[Point]) -> int:
        """Log the values that it hasn't, and return how many. One that stands in for another value at the same count of
        images, of a part of the run that was done again, is the newer."""
        points = [(allowed_name(name), value, images, at) for name, value, images, at in points]
        known, missing = self._run().data.metrics, list[Point]()
        for name in {name for name, *_ in points} & known.keys():
            history = self.client.get_metric_history(self.run_id, name)
            there, taken = {(each.step, _same(each.value)) for each in history}, {each.step for each in history}
            for metric, value, images, at in points:
                if metric == name and (images, _same(value)) not in there:
                    missing.append((metric, value, images, time.time() if images in taken else at))
        missing += [point for point in points if point[0] not in known]
        self.log(missing)
        return len(missing)

    def log_changed(self, values: Mapping[str, float]) -> int:
        """Log the values that differ from the latest of their names, and return how many."""
        there = self._run().data.metrics
        changed = [(name, value) for name, value in values.items() if there.get(allowed_name(name)) != value]
        self.log([(name, value, 0, time.time()) for name, value in changed])
        return len(changed)

    def artifact(self, path: Path, place: str = "", anew: bool = False) -> bool:
        """Copy a file to the folder `place` of the run unless it has one of that name and size; returns whether it did.
        `anew`: in any case."""
        there = {
            Path(each.path).name: each.file_size for each in self.client.list_artifacts(self.run_id, place or None)
        }
        if not anew and there.get(path.name, -1) in (None, path.stat().st_size):
            return False
        self.client.log_artifact(self.run_id, str(path), place)
        return True

    def keep(self, record: Mapping[str, Any], anew: bool) -> bool:
        """Keep a copy of an evaluation's record unless it has one; `anew`: in any case. Returns whether it did."""
        if not anew and any(each.path == RECORD_COPY for each in self.client.list_artifacts(self.run_id)):
            return False
        self.client.log_dict(self.run_id, dict(record), RECORD_COPY)
        return True

    def tag(self, name: str) -> str | None:
        """A tag that the run has, or None."""
        return self._run().data.tags.get(name)

    def _send(self, kind: str, entities: Sequence[Any]) -> None:
        """Log `params`, `tags` or `metrics`, as many at once as MLflow takes."""
        most = _bound("MAX_METRICS_PER_BATCH" if kind == "metrics" else "MAX_PARAMS_TAGS_PER_BATCH")
        for batch in batches(entities, most, _bound("MAX_BATCH_LOG_REQUEST_SIZE") // 2):
            self.client.log_batch(self.run_id, **{kind: batch})

    def _run(self) -> Any:
        return self.client.get_run(self.run_id)

    def _sweep(self) -> str | None:
        """Id of the sweep that it is of. The parent of an evaluation is a run, whose state is its own."""
        parent = self.tag("mlflow.parentRunId")
        return parent if parent and self.client.get_run(parent).data.tags.get("kind") == "sweep" else None


def warn_unreachable(error: Exception, what: str, folder: Path) -> None:
    """The warning for `what` (a run, an evaluation) in `folder` that MLflow could not take."""
    warnings.warn(
        f"MLflow is not reachable ({reason(error)}); "
        f"the {what} goes on and its record is in {folder}. Later: rnagan sync-mlflow {folder}",
        stacklevel=4,
    )


def reason(error: Exception) -> str:
    """What an error says first: a database's goes on with its question."""
    if isinstance(error, OSError) and error.errno is not None:
        return in_words(error).removesuffix(".")
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"


def has_store(folder: Path) -> bool:
    """Whether a run's folder has a store at all: a server, or an sqlite file that is there."""
    path = _sqlite_path(tracking_uri(folder))
    return path is None or path.is_file()


def recorded_evaluations(folder: Path, digests: Iterable[str]) -> list[tuple[Path, dict[str, Any]]]:
    """The folders and records of all evaluations of these models in the store of a run's folder.

    Raises whatever MLflow raises where it can't be reached.
    """
    with _store(folder) as (client, _):
        homes, found = _experiments(client), []
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


def _bound(name: str) -> int:
    """What the installed MLflow takes, by a name of `_BOUNDS`."""
    from mlflow.utils import validation

    return int(getattr(validation, name, _BOUNDS[name]))


def _allowed_tags(tags: Mapping[str, str]) -> dict[str, str]:
    longest = _bound("MAX_TAG_VAL_LENGTH")
    return {allowed_name(name): allowed_text(str(value), longest) for name, value in tags.items()}


def _same(value: float) -> float | str:
    return "nan" if value != value else value


def _command() -> str:
    """The command that runs, such as `rnagan train-vae`, or the script where there is none."""
    context = click.get_current_context(silent=True)
    return Path(sys.argv[0]).name if context is None else context.command_path


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[tuple[Any, bool]]:
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


def _experiment(client: Any, name: str, folder: Path) -> str:
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


def _experiments(client: Any) -> list[str]:
    """Ids of the experiments of all kinds of runs, as far as the store has them."""
    found = [client.get_experiment_by_name(name) for name in EXPERIMENTS.values()]
    return [experiment.experiment_id for experiment in found if experiment is not None]


def _known_run(client: Any, homes: list[str], known: str | None, key: str) -> str | None:
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


def _run_of_model(client: Any, homes: list[str], record: Mapping[str, Any]) -> Any | None:
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


def _sweep_run(client: Any, home: str, sweep: str, settle_seconds: float) -> str:
    """Id of the run that stands for a sweep, made where there is none.

    MLflow has no way to make a run unless there is one. Where processes that start together aren't kept apart by a
    lock, each makes one, waits until it can see the others', and all keep the oldest; two remain only where one took
    longer than `settle_seconds` to make its own.
    """
    sweep = allowed_text(sweep, _bound("MAX_TAG_VAL_LENGTH"))

    def there() -> list[Any]:
        found = client.search_runs([home], "tags.kind = 'sweep'", order_by=["attributes.start_time ASC"])
        own = [run for run in found if run.data.tags["sweep"] == sweep]
        return sorted(own, key=lambda run: (run.info.start_time, run.info.run_id))

    oldest = there()
    if not oldest:
        tags = {"kind": "sweep", "sweep": sweep, "mlflow.user": _user()}
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
