"""One run in an MLflow store, of a training or of an evaluation: found or made, and brought up to date."""

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import click

from rnagan.io.disk_errors import in_words
from rnagan.tracking.mlflow_limits import NAME_LENGTH, allowed_name, allowed_tags, allowed_text, batches, bound
from rnagan.tracking.mlflow_store import (
    EXPERIMENTS,
    RECORD_COPY,
    SETTLE_SECONDS,
    experiment_id,
    experiment_ids,
    known_run,
    opened_store,
    run_of_model,
    sweep_run,
    user_name,
)

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
        with opened_store(folder) as (client, alone):
            home = experiment_id(client, record["experiment"], folder)
            tags = {}
            if sweep := record["tags"].get("sweep"):
                tags["mlflow.parentRunId"] = sweep_run(client, home, sweep, 0.0 if alone else SETTLE_SECONDS)
            found = known_run(client, [home], known, record["key"])
            path = folder.resolve()
            return cls._found_or_made(client, home, found, path, f"{path.parent.name}/{path.name}", record, tags)

    @classmethod
    def open_evaluation(cls, out: Path, record: Mapping[str, Any], beside: Path) -> tuple[Self, bool]:
        """The MLflow run of an evaluation in the folder `out`, and whether it was made just now.

        It is a child of the run of the evaluated model, which has the key `record["run"]["key"]` or a tag with the
        digest of the model. Where the store knows no such run, it stands alone. `beside`: the folder whose store is
        used.
        """
        with opened_store(beside) as (client, _):
            homes = experiment_ids(client)
            parent = run_of_model(client, homes, record)
            home = experiment_id(client, EXPERIMENTS["gan"], beside) if parent is None else parent.info.experiment_id
            found = known_run(client, [*{*homes, home}], record["mlflow_run"], record["key"])
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
        own = {"run_key": record["key"], "folder": str(folder), "mlflow.user": user_name()}
        own |= {"mlflow.source.name": _command(), "mlflow.source.type": "LOCAL"}
        own = allowed_tags(own | dict(tags))
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
        longest = bound("MAX_PARAM_VAL_LENGTH")
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
        new = [RunTag(name, value) for name, value in allowed_tags(tags).items() if there.get(name) != value]
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
        most = bound("MAX_METRICS_PER_BATCH" if kind == "metrics" else "MAX_PARAMS_TAGS_PER_BATCH")
        for batch in batches(entities, most, bound("MAX_BATCH_LOG_REQUEST_SIZE") // 2):
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


def _same(value: float) -> float | str:
    return "nan" if value != value else value


def _command() -> str:
    """The command that runs, such as `rnagan train-vae`, or the script where there is none."""
    context = click.get_current_context(silent=True)
    return Path(sys.argv[0]).name if context is None else context.command_path
