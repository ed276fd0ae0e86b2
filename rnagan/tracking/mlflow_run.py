"""One run in an MLflow store: found or made, and told what it doesn't know yet."""

import contextlib
import getpass
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import filelock

LOCK_SECONDS = 60.0  # that a process waits for another one which sets the same sqlite store up
SETTLE_SECONDS = 1.0  # in which processes that began a sweep together see one another on a server
_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100  # metrics and parameters that MLflow takes in a batch

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
        # A server that is down would otherwise hold the start up for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        uri = tracking_uri(folder)
        with _set_up_alone(uri) as alone:
            client = MlflowClient(tracking_uri=uri)
            home = _experiment(client, record["experiment"], _artifact_root(uri, folder))
            found = _known_run(client, home, known, record["key"])
            tags = {}
            if sweep := record["tags"].get("sweep"):
                tags["mlflow.parentRunId"] = _sweep_run(client, home, sweep, 0.0 if alone else SETTLE_SECONDS)
            if found is not None:
                cls(client, found).tags(tags)
                return cls(client, found), False
            tags |= {"run_key": record["key"], "folder": str(folder.resolve()), "mlflow.user": _user()}
            tags |= {"mlflow.source.name": Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}
            name, began = f"{folder.resolve().parent.name}/{folder.resolve().name}", round(1000 * record["began"])
            return cls(client, client.create_run(home, began, tags, name).info.run_id), True

    def begin(self, settings: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Say that it is running, and which settings and tags it has."""
        self.client.update_run(self.run_id, status="RUNNING")
        if parent := self._parent():
            self.client.update_run(parent, status="RUNNING")
        self.settings(settings)
        self.tags(tags)

    def end(self, status: str, tags: Mapping[str, str], seconds: float | None = None) -> None:
        """End it, at a Unix time or now; its sweep ends with the last of its runs."""
        self.tags(tags)
        if self._run().info.status != status:
            self.client.set_terminated(self.run_id, status, None if seconds is None else round(1000 * seconds))
        if parent := self._parent():
            running = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
            still = self.client.search_runs([self._run().info.experiment_id], running, max_results=1)
            if not still and self.client.get_run(parent).info.status != "FINISHED":
                self.client.set_terminated(parent, "FINISHED")

    def settings(self, settings: Mapping[str, Any]) -> int:
        """Log the parameters that it hasn't, and return how many. MLflow changes none: `settings_changed` tells."""
        from mlflow.entities import Param

        there, now = self._run().data.params, {name: str(value) for name, value in settings.items()}
        new = [Param(name, value) for name, value in now.items() if name not in there]
        changed = [f"{name} {there[name]} → {now[name]}" for name in now if there.get(name, now[name]) != now[name]]
        for start in range(0, len(new), _PARAMS_AT_ONCE):
            self.client.log_batch(self.run_id, params=new[start : start + _PARAMS_AT_ONCE])
        if changed:
            self.tags({"settings_changed": ", ".join(changed)})
        return len(new)

    def tags(self, tags: Mapping[str, str]) -> int:
        """Set the tags that it hasn't so, and return how many."""
        from mlflow.entities import RunTag

        there = self._run().data.tags
        new = [RunTag(name, value) for name, value in tags.items() if there.get(name) != value]
        if new:
            self.client.log_batch(self.run_id, tags=new)
        return len(new)

    def log(self, points: list[Point]) -> None:
        """Log values of metrics."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, round(1000 * at), images) for name, value, images, at in points]
        for start in range(0, len(metrics), _AT_ONCE):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + _AT_ONCE])

    def log_missing(self, points: list[Point]) -> int:
        """Log the values that it hasn't, and return how many. One that stands in for another value at the same count of
        images, of a part of the run that was done again, is the newer."""
        missing: list[Point] = []
        for name in {name for name, *_ in points} & set(self._run().data.metrics):
            history = self.client.get_metric_history(self.run_id, name)
            there, taken = {(each.step, _same(each.value)) for each in history}, {each.step for each in history}
            for metric, value, images, at in points:
                if metric == name and (images, _same(value)) not in there:
                    missing.append((metric, value, images, time.time() if images in taken else at))
        missing += [point for point in points if point[0] not in self._run().data.metrics]
        self.log(missing)
        return len(missing)

    def artifact(self, run: Path, path: Path) -> bool:
        """Copy a file of the run there unless it has one of that name and size; returns whether it did."""
        place = path.parent.relative_to(run).as_posix()
        place = "" if place == "." else place
        there = {
            Path(each.path).name: each.file_size for each in self.client.list_artifacts(self.run_id, place or None)
        }
        if there.get(path.name, -1) in (None, path.stat().st_size):
            return False
        self.client.log_artifact(self.run_id, str(path), place)
        return True

    def _run(self) -> Any:
        return self.client.get_run(self.run_id)

    def _parent(self) -> str | None:
        return self._run().data.tags.get("mlflow.parentRunId")


def tracking_uri(run: Path) -> str:
    """Where MLflow keeps a run: what MLFLOW_TRACKING_URI says, or the store beside it."""
    return os.environ.get("MLFLOW_TRACKING_URI", default_tracking_uri(run))


def shown(uri: str) -> str:
    """A tracking URI without the user and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", uri)


def default_tracking_uri(run: Path) -> str:
    """The sqlite store beside a run, shared by its siblings."""
    return f"sqlite:///{Path(run).resolve().parent / 'mlflow.db'}"


def _same(value: float) -> float | str:
    return "nan" if value != value else value


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


def _experiment(client: Any, name: str, artifact_root: str | None) -> str:
    """Id of the experiment of that name, made where there is none, once however many ask."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifact_root)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:  # not that another process was faster
                raise
    return found.experiment_id


def _known_run(client: Any, home: str, known: str | None, key: str) -> str | None:
    from mlflow.exceptions import MlflowException

    if known is not None:
        try:
            if client.get_run(known).info.lifecycle_stage == "active":
                return known
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    found = client.search_runs([home], f"tags.run_key = '{key}'", max_results=1)
    return found[0].info.run_id if found else None


def _sweep_run(client: Any, home: str, sweep: str, settle_seconds: float) -> str:
    """Id of the run that stands for a sweep, made where there is none.

    MLflow has no way to make a run unless there is one. Where processes that start together aren't kept apart by a
    lock, each makes one, waits until it can see the others', and all keep the oldest; two remain only where one took
    longer than `settle_seconds` to make its own.
    """

    def there() -> list[Any]:
        found = client.search_runs([home], "tags.kind = 'sweep'", order_by=["attributes.start_time ASC"])
        own = [run for run in found if run.data.tags["sweep"] == sweep]
        return sorted(own, key=lambda run: (run.info.start_time, run.info.run_id))

    oldest = there()
    if not oldest:
        made = client.create_run(home, run_name=sweep, tags={"kind": "sweep", "sweep": sweep, "mlflow.user": _user()})
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
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    if path == uri:
        yield False
        return
    with filelock.FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
        yield True


def _artifact_root(uri: str, run: Path) -> str | None:
    return (Path(run).resolve().parent / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
