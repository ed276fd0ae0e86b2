"""The record of a run: its folder first, mirrored to MLflow.

`metrics.jsonl` is the truth; an MLflow server that can't be reached costs one warning, never the training, and
`rnagan sync-mlflow` brings it up to date later.
"""

import contextlib
import json
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import rnagan
from rnagan.config.base import Config
from rnagan.io.files import write_text
from rnagan.tracking.mlflow_run import MLflowRun, Point, warn_unreachable
from rnagan.tracking.mlflow_store import MODEL_TAGS
from rnagan.tracking.run_folder import model_digest, read_metrics, read_record, run_digest, this_process, write_record


class Unwritten:
    """What a full disk keeps out of a run's folder: one warning a kind of file, and the run goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._warned = folder, set[str]()

    @contextlib.contextmanager
    def tolerated(self, kind: str) -> Iterator[None]:
        """A block that writes; an `OSError` in it ends the block alone."""
        try:
            yield
        except OSError as error:
            if kind not in self._warned:
                warnings.warn(
                    f"No {kind} can be written to {self._folder} ({error.strerror or error}); the run goes on and "
                    "tries again. Make room.",
                    stacklevel=4,
                )
            self._warned.add(kind)


class RunLog:
    """Writes a run's config, metrics and pictures to its folder and mirrors them to MLflow, on the main process only.

    `folder` is the run; its parent holds `mlflow.db` unless MLFLOW_TRACKING_URI names a server. `tags` are what MLflow
    filters and groups runs by; with `sweep` among them the run is a child of that sweep's run. `total`: images that
    the whole run shows; `made_from`: digests of its inputs.
    `resumed_at` cuts `metrics.jsonl` back to rows with at most that count of images; `run_id` continues an MLflow run,
    and where the store has none of that id, what the folder knows of the run is brought there.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        experiment: str,
        *,
        main: bool,
        tags: Mapping[str, str] | None = None,
        total: int | None = None,
        made_from: Mapping[str, str] | None = None,
        resumed_at: int | None = None,
        run_id: str | None = None,
    ) -> None:
        self.folder, self.main, self.run_id = Path(folder), main, run_id
        self._mlflow: MLflowRun | None = None
        self._unwritten, self._waiting = Unwritten(self.folder), ""  # rows that a full disk didn't take
        self._began, self._seconds_before = time.monotonic(), 0.0
        if not main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        config.save(self.folder / "config.yaml")
        self._cut_back(resumed_at)
        self._record = new_record(self.folder, experiment, resumed_at is not None)
        self._record |= {"total": total, "made_from": dict(made_from or {})}
        self._record["tags"] = self._record["tags"] | dict(tags or {}) | {"resumed": str(self._record["resumed"])}
        self._mirror(lambda: self._start_mlflow(config.to_dict()), starting=True)
        self._write_record()

    def clock(self) -> float:
        """Seconds in the run so far, those before it was resumed too."""
        return self._seconds_before + time.monotonic() - self._began

    def metrics(self, images: int, values: dict[str, float], seconds: float | None = None) -> None:
        """Append one row of scalars at a count of images (training samples) seen; `seconds`: what the `clock` said when
        they were measured, None for now."""
        if not self.main:
            return
        late = 0.0 if seconds is None else self.clock() - seconds
        row = {"images": images, "seconds": round(self.clock() - late, 3)} | values
        self._waiting += json.dumps(row) + "\n"
        with self._unwritten.tolerated("row of metrics"):
            self._append()
        at = time.time() - late
        self._mirror(lambda mlflow: mlflow.log([(name, value, images, at) for name, value in values.items()]))

    def artifact(self, path: Path) -> None:
        """Mirror a file of the run (a sample grid, say) to MLflow, under the folder name it has in the run."""
        if self.main:
            place = Path(path).parent.relative_to(self.folder)
            self._mirror(lambda mlflow: mlflow.artifact(Path(path), place.as_posix().removeprefix(".")))

    def close(self, finished: bool = True, failed: bool = False) -> None:
        """End the MLflow run: FINISHED, FAILED after an error, or KILLED when it was stopped early."""
        if not self.main:
            return
        status = "FINISHED" if finished else "FAILED" if failed else "KILLED"
        self._record |= {"status": status, "ended": time.time()}
        self._record["tags"] |= model_tags(self.folder)
        self._write_record()
        self._mirror(lambda mlflow: mlflow.end(status, self._record["tags"]))

    def _append(self) -> None:
        """Write the waiting rows whole, or not at all."""
        path = self.folder / "metrics.jsonl"
        size = path.stat().st_size
        try:
            with open(path, "a", encoding="utf-8") as handle:
                handle.write(self._waiting)
        except OSError:
            os.truncate(path, size)
            raise
        self._waiting = ""

    def _cut_back(self, resumed_at: int | None) -> None:
        path = self.folder / "metrics.jsonl"
        rows = read_metrics(self.folder) if resumed_at is not None else []
        kept = [row for row in rows if row["images"] <= (resumed_at or 0)]
        self._seconds_before = kept[-1]["seconds"] if kept else 0.0
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    def _write_record(self) -> None:
        with self._unwritten.tolerated("run.json"):
            write_record(self.folder, self._record | {"mlflow_run": self.run_id})

    def _start_mlflow(self, settings: dict[str, Any]) -> None:
        known, record = self.run_id or self._record["mlflow_run"], self._record
        mlflow, is_new = MLflowRun.open(self.folder, record, known)
        mlflow.begin(settings, record["tags"])
        mlflow.artifact(self.folder / "config.yaml")
        if is_new:
            mlflow.log(points(read_metrics(self.folder), record["began"]))
        self._mlflow, self.run_id = mlflow, mlflow.run_id

    def _mirror(self, action: Callable[..., None], starting: bool = False) -> None:
        if self._mlflow is None and not starting:
            return
        try:
            action() if starting else action(self._mlflow)
        except Exception as error:  # whatever a tracking server does, training goes on
            self._mlflow = None
            warn_unreachable(error, "run", self.folder)


def new_record(folder: Path, experiment: str, goes_on: bool) -> dict[str, Any]:
    """The run.json of a run that begins or goes on now. A run that begins anew in its folder keeps its key."""
    before = read_record(folder)
    own = {"key": before.get("key", uuid.uuid4().hex), "mlflow_run": before.get("mlflow_run")}
    tags = before.get("tags", {}) | {"rnagan": rnagan.__version__}
    began, resumed = (before.get("began"), before.get("resumed", 0)) if goes_on else (None, 0)
    own |= {"experiment": experiment, "began": began or time.time(), "resumed": resumed + goes_on, "status": "RUNNING"}
    return own | {"ended": None, "tags": tags} | this_process()


def model_tags(folder: Path) -> dict[str, str]:
    """Digests of a run's models as tags, by which evaluations find the run."""
    digests = zip(MODEL_TAGS, (run_digest(folder), model_digest(folder / "model-best")), strict=True)
    return {name: digest for name, digest in digests if digest is not None}


def points(rows: list[dict[str, Any]], began: float) -> list[Point]:
    """The values of rows of metrics, at the times that they were measured if the run was never broken off."""
    return [
        (name, float(value), row["images"], began + row["seconds"])
        for row in rows
        for name, value in row.items()
        if name not in ("images", "seconds")
    ]
