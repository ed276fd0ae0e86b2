"""What a run's folder says of the run: settings, rows of metrics, progress, model and inputs."""

import dataclasses
import math
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

import psutil

from rnagan.io.files import read_json, read_yaml, sha256_of, write_json
from rnagan.io.json_values import check_json, json_problem, parse_json
from rnagan.io.tables import first_few

RECORD = "run.json"  # who began it, when, its tags and its run in MLflow: rnagan/tracking/run_log.py
BACKBONE = "backbone.json"  # the record of a SimCLR run's model: rnagan/models/resnet.py
KINDS = {"gan": "a GAN", "flow": "a flow", "vae": "a β-VAE", "simclr": "SimCLR"}
TILES = ("gan", "flow")  # kinds that generate tiles
_SETTINGS = {
    "gan": {"mode", "resolution", "images"},
    "flow": {"time_mean", "resolution", "images"},
    "vae": {"latent", "beta", "epochs"},
    "simclr": {"temperature", "projection", "epochs"},
}
SEEN = {"gan": "images", "flow": "images", "vae": "profiles", "simclr": "tiles"}  # what its clock counts


class RunRecord(TypedDict, total=False):
    """The run.json of a run; versions before this one left some out."""

    key: str
    mlflow_run: str | None
    experiment: str
    began: float
    resumed: int
    status: str
    ended: float | None
    tags: dict[str, str]
    host: str
    pid: int
    pid_since: float
    total: int | None
    made_from: dict[str, str]


class _Clock(TypedDict):
    """What a row of metrics says of its place in the run."""

    images: int
    seconds: float


class _ModelRecord(TypedDict, total=False):
    """What is read here of the record of a model of any kind."""

    digest: str
    files: dict[str, str]
    images: int
    made_from: dict[str, str]
    splits: dict[str, int]


class _TileSettings(TypedDict):
    images: int


class _EpochSettings(TypedDict):
    epochs: int
    batch_size: int


class _State(TypedDict):
    made_from: NotRequired[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """One run of train-rnagan (`kind` gan), train-flow (flow), train-vae (vae) or pretrain-simclr (simclr), finished or
    not.

    `settings`: its config.yaml. `rows`: complete rows of metrics.jsonl. `images` of `total` were shown; `total` is None
    where the folder doesn't say. `digest`, `best_digest`: of `model` (a backbone lies in the run itself) and
    `model-best`. `record`: its run.json, {} for a run of a version that wrote none.
    """

    folder: Path
    kind: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    images: int
    total: int | None
    finished: bool
    digest: str | None
    best_digest: str | None
    made_from: dict[str, str]
    record: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a run folder. Raises `FileNotFoundError` where there is none."""
        folder = Path(folder)
        kind = _kind(folder)
        if kind is None:
            raise FileNotFoundError(
                f"{folder} is no run folder (no config.yaml of a GAN, a flow, a β-VAE or SimCLR in it); give a folder "
                "that train-rnagan, train-flow, train-vae or pretrain-simclr wrote."
            )
        settings, rows, record = read_yaml(folder / "config.yaml"), read_metrics(folder), read_record(folder)
        check_json(settings, _TileSettings if kind in TILES else _EpochSettings, folder / "config.yaml")
        newest = latest_checkpoint(folder)
        state: Mapping[str, Any] = {} if newest is None else _state(newest)
        model = _model_record(folder / "model") or _model_record(folder)
        images = max(rows[-1]["images"] if rows else 0, 0 if newest is None else int(newest.name))
        total = settings["images"] if kind in TILES else record.get("total") or _counted(settings, model)
        finished = bool(model) if kind not in TILES else model.get("images", 0) >= settings["images"]
        made_from = model.get("made_from") or state.get("made_from") or record.get("made_from", {})
        best = model_digest(folder / "model-best")
        return cls(folder, kind, settings, rows, images, total, finished, run_digest(folder), best, made_from, record)

    @property
    def seconds(self) -> float:
        """Seconds in training and validation up to the last row."""
        return float(self.rows[-1]["seconds"]) if self.rows else 0.0

    @property
    def state(self) -> str:
        """Its progress in words."""
        if self.finished:
            return "finished"
        return f"{self.images:,} of {'?' if self.total is None else f'{self.total:,}'} {SEEN[self.kind]}"

    @property
    def status(self) -> str:
        """MLflow's word for its state: FINISHED, RUNNING, FAILED or KILLED."""
        if self.finished:
            return "FINISHED"
        status = self.record.get("status", "KILLED")
        return "KILLED" if status == "RUNNING" and _is_dead(self.record) else status

    def sample_grids(self) -> dict[int, Path]:
        """The sample grids that it saved, by count of images, in order."""
        return {int(path.stem): path for path in sorted((self.folder / "samples").glob("[0-9]*.png"))}


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The run folders among `paths`, and those right in a folder that is no run itself, each once.

    Raises `FileNotFoundError` with the first path that holds none.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(below for below in path.iterdir() if _kind(below)) if path.is_dir() and not _kind(path) else []
        if not inside:
            RunFolder.open(path)
        found += inside or [path]
    return list({path.resolve(): path for path in found}.values())


def check_one_kind(runs: Sequence[RunFolder]) -> None:
    """Refuse runs of several kinds."""
    of = {KINDS[kind]: [run.folder.name for run in runs if run.kind == kind] for kind in KINDS}
    named = [f"{kind} ({first_few(names)})" for kind, names in of.items() if names]
    if len(named) > 1:
        raise ValueError(f"Runs of {' and '.join(named)} have nothing to compare; name runs of one kind.")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All complete rows of a run's `metrics.jsonl`, oldest first; none where it isn't there yet."""
    path, rows = Path(run) / "metrics.jsonl", []
    if not path.is_file():
        return []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # the power failed while it was written
        try:
            row = parse_json(line, nan=True)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is no row of metrics; delete that line ({error}).") from None
        if problem := json_problem(row, _Clock) or json_problem(row, dict[str, float]):
            raise ValueError(f"{path}, line {number}, {problem}; delete that line.")
        rows.append(row)
    return rows


def read_record(run: Path) -> dict[str, Any]:
    """The run's run.json, {} where there is none."""
    path = Path(run) / RECORD
    return dict(read_json(path, RunRecord)) if path.is_file() else {}


def write_record(run: Path, record: dict[str, Any]) -> None:
    """Write the run's run.json."""
    write_json(Path(run) / RECORD, record)


def this_process() -> dict[str, Any]:
    """The process that trains, so that others can see whether it is still there."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "pid_since": psutil.Process().create_time()}


def run_digest(run: Path) -> str | None:
    """Digest of the model that a run left last, None where there is none. A SimCLR run is itself a model folder."""
    return model_digest(Path(run) / "model") or model_digest(run)


def model_digest(folder: Path) -> str | None:
    """Digest of a model folder as it says it itself (a β-VAE: of the list of its files), None where there is none."""
    record = _model_record(folder)
    return record.get("digest") or (sha256_of(record["files"]) if "files" in record else None)


def _state(checkpoint: Path) -> dict[str, Any]:
    """The state of a checkpoint, {} where it is damaged: training then goes on from the one before."""
    try:
        return dict(read_json(checkpoint / "state.json", _State, nan=True))
    except (OSError, ValueError):
        return {}


def _kind(folder: Path) -> str | None:
    """Of which kind a run folder is, by settings that every version had; None for anything else, a model folder too."""
    if not (folder / "config.yaml").is_file() or (folder / "model.json").is_file():
        return None
    names = read_yaml(folder / "config.yaml").keys()
    return next((kind for kind, needed in _SETTINGS.items() if needed <= names), None)


def _model_record(model: Path) -> dict[str, Any]:
    paths = [Path(model) / name for name in ("model.json", BACKBONE)]
    return next((dict(read_json(path, _ModelRecord)) for path in paths if path.is_file()), {})


def _counted(settings: dict[str, Any], model: dict[str, Any]) -> int | None:
    """Tiles or profiles of a run whose record has no `total`: a backbone says its tiles; those of a β-VAE are counted
    as `total_steps` of rnagan/training/run.py does."""
    if "images" in model:
        return model["images"]
    train = model.get("splits", {}).get("train")
    return train and math.ceil(settings["epochs"] * train / settings["batch_size"]) * settings["batch_size"]


def _is_dead(record: dict[str, Any]) -> bool:
    """Whether the process that trained is known to be no more; another host's isn't known."""
    if record.get("host") != socket.gethostname() or not {"pid", "pid_since"} <= record.keys():
        return False
    try:
        return abs(psutil.Process(record["pid"]).create_time() - record["pid_since"]) > 1  # another one since
    except psutil.Error:
        return True


def checkpoint_path(run: Path, count: int) -> Path:
    """Folder of the checkpoint after `count` images (or steps) of a run."""
    return Path(run) / "checkpoints" / f"{count:012d}"


def latest_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    return max((Path(run) / "checkpoints").glob("[0-9]*"), default=None)
