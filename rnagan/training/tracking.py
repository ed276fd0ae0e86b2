"""The record of a run: its folder first, mirrored to MLflow.

`metrics.jsonl` is the truth; an MLflow server that can't be reached costs one warning, never the training.
"""

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rnagan.config import Config
from rnagan.files import write_text


class Unwritten:
    """What a full disk keeps out of a run's folder: one warning a kind of file, and the run goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._told = folder, set[str]()

    @contextlib.contextmanager
    def tolerated(self, kind: str) -> Iterator[None]:
        """A block that writes; an `OSError` in it ends the block alone."""
        try:
            yield
        except OSError as error:
            if kind not in self._told:
                warnings.warn(
                    f"No {kind} can be written to {self._folder} ({error.strerror or error}); the run goes on and "
                    "tries again. Make room.",
                    stacklevel=4,
                )
            self._told.add(kind)


class RunLog:
    """Writes a run's config, metrics and pictures to its folder and mirrors them to MLflow, on the main process only.

    `folder` is the run; its parent holds `mlflow.db` unless MLFLOW_TRACKING_URI names a server.
    `resumed_at` cuts `metrics.jsonl` back to rows with at most that count of images; `run_id` continues an MLflow run.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        experiment: str,
        *,
        main: bool,
        tags: dict[str, str] | None = None,
        resumed_at: int | None = None,
        run_id: str | None = None,
    ) -> None:
        self.folder, self.main, self.run_id = Path(folder), main, run_id
        self._client: Any = None
        self._unwritten, self._waiting = Unwritten(self.folder), ""  # rows that a full disk didn't take
        self._began, self._seconds_before = time.monotonic(), 0.0
        if not main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        config.save(self.folder / "config.yaml")
        self._cut_back(resumed_at)
        self._mirror(lambda: self._start_mlflow(config, experiment, tags or {}), starting=True)

    def metrics(self, images: int, values: dict[str, float]) -> None:
        """Append one row of scalars at a count of images (training samples) seen."""
        if not self.main:
            return
        row = {"images": images, "seconds": round(self._seconds_before + time.monotonic() - self._began, 3)} | values
        self._waiting += json.dumps(row) + "\n"
        with self._unwritten.tolerated("row of metrics"):
            self._append()
        self._mirror(lambda: self._log_batch(images, values))

    def artifact(self, path: Path) -> None:
        """Mirror a file of the run (a sample grid, say) to MLflow, under the folder name it has in the run."""
        place = str(Path(path).parent.relative_to(self.folder)) if self.main else ""
        if self.main:
            self._mirror(lambda: self._client.log_artifact(self.run_id, str(path), "" if place == "." else place))

    def close(self, finished: bool = True) -> None:
        """End the MLflow run: FINISHED, or KILLED when it stopped early."""
        if self.main:
            self._mirror(lambda: self._client.set_terminated(self.run_id, "FINISHED" if finished else "KILLED"))

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
        rows = read_metrics(self.folder) if path.is_file() and resumed_at is not None else []
        kept = [row for row in rows if row["images"] <= (resumed_at or 0)]
        self._seconds_before = kept[-1]["seconds"] if kept else 0.0
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    def _start_mlflow(self, config: Config, experiment: str, tags: dict[str, str]) -> None:
        # A server that is down would otherwise hold the start up for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        uri = os.environ.get("MLFLOW_TRACKING_URI", default_tracking_uri(self.folder))
        client = MlflowClient(tracking_uri=uri)
        if self.run_id is None:
            found = client.get_experiment_by_name(experiment)
            home = (
                found.experiment_id
                if found
                else client.create_experiment(experiment, artifact_location=_artifact_root(uri, self.folder))
            )
            run = client.create_run(home, run_name=self.folder.name, tags=tags)
            params = [Param(name, str(value)) for name, value in config.to_dict().items()]
            client.log_batch(run.info.run_id, params=params)
            self.run_id = run.info.run_id
        else:
            client.update_run(self.run_id, status="RUNNING")
        self._client = client

    def _log_batch(self, images: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, metrics=[Metric(k, v, now, images) for k, v in values.items()])

    def _mirror(self, action: Callable[[], None], starting: bool = False) -> None:
        if self._client is None and not starting:
            return
        try:
            action()
        except Exception as error:  # whatever a tracking server does, training goes on
            self._client = None
            warnings.warn(
                f"MLflow is not reachable ({type(error).__name__}: {str(error)[:200]}); "
                f"the run goes on and its record is in {self.folder}.",
                stacklevel=3,
            )


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All complete rows of a run's `metrics.jsonl`, oldest first."""
    lines = (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def default_tracking_uri(run: Path) -> str:
    """The sqlite store beside a run, shared by its siblings."""
    return f"sqlite:///{Path(run).resolve().parent / 'mlflow.db'}"


def _artifact_root(uri: str, run: Path) -> str | None:
    return (Path(run).resolve().parent / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
