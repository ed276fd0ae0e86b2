"""The record of an evaluation: `evaluation_run.json` in its folder first, mirrored to MLflow under the model's run."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import rnagan
from rnagan.io.claim import Claim
from rnagan.io.files import read_json, sha256_of, write_json
from rnagan.runtime.devices import arithmetic
from rnagan.tracking.mlflow_run import MLflowRun, warn_unreachable
from rnagan.tracking.mlflow_store import EVALUATION
from rnagan.tracking.run_folder import read_record, run_digest
from rnagan.tracking.run_log import model_tags

EVALUATION_RECORD = "evaluation_run.json"
_ENDS = ("low", "high")  # of a score's interval


class EvaluationRun(TypedDict):
    """The folder and the key of the run of a model."""

    folder: str
    key: str | None


class Score(TypedDict):
    """A figure, None where it wasn't measured, and perhaps the ends of its interval."""

    value: float | None
    low: NotRequired[float | None]
    high: NotRequired[float | None]


class EvaluationRecord(TypedDict):
    """The record of an evaluation (`record_evaluation`)."""

    kind: str
    model: str
    key: str
    run: EvaluationRun | None
    scores: dict[str, Score]
    protocol: dict[str, Any]
    protocol_digest: str
    page: str | None
    pictures: list[str]
    rnagan: str
    began: float
    changed: float
    mlflow_run: str | None
    split_by: NotRequired[str]
    claim: NotRequired[str]


def read_evaluation(path: Path) -> EvaluationRecord:
    """Read the record of an evaluation; `ValueError` with its name and the field where it is none."""
    return read_json(path, EvaluationRecord)


def record_evaluation(
    out: Path,
    kind: str,
    model: Path | str,
    scores: Mapping[str, Mapping[str, float]],
    protocol: Mapping[str, Any],
    page: Path | None = None,
    pictures: Sequence[Path] = (),
    claim: Claim | None = None,
) -> None:
    """Record an evaluation in `out/evaluation_run.json`, and mirror it to MLflow as a child of the run of its model.

    Call it last, on the main process only. `kind`: faithfulness, fid, external_tiles …; a folder may hold one
    evaluation of each kind. `model`: a run's folder, its `model` or `model-best`, a copy of one of these, or a digest.
    `scores`: by name {"value"} and perhaps "low" and "high", the ends of its interval; a value that is None or not
    finite was not measured. `protocol`: JSON-able; whatever decides the figures beside the model, digests of the inputs
    among it. Model, kind and protocol are the key of an evaluation: the same one again changes its MLflow run only
    where figures differ. `page`, `pictures`: files that are copied to MLflow. `claim`: what was held out, where that
    isn't donors.

    The store is that of MLFLOW_TRACKING_URI, else the sqlite file beside the model's run or, without a run, beside
    `out`. One that can't be reached costs a warning. Raises `FileNotFoundError` where `model` holds no model.
    """
    run, digest = _run_and_digest(model)
    plain = _plain(protocol)
    record = {
        "kind": kind,
        "model": digest,
        "key": sha256_of([kind, digest, plain]),
        "run": None if run is None else {"folder": str(run.resolve()), "key": read_record(run).get("key")},
        "scores": {name: _score(score) for name, score in scores.items()},
        "protocol": plain,
        "protocol_digest": sha256_of(plain),
        "page": None if page is None else os.path.relpath(page, out),
        "pictures": [os.path.relpath(picture, out) for picture in pictures],
        "rnagan": rnagan.__version__,
        "arithmetic": arithmetic(),
    }
    record |= {} if claim is None else claim.as_json()
    path = _path(Path(out), kind)
    before: Mapping[str, Any] = read_evaluation(path) if path.is_file() else {}
    same = before if before.get("key") == record["key"] else {}
    times = {"began": same.get("began", time.time()), "changed": time.time()}
    if all(same.get(name) == value for name, value in record.items()):
        times["changed"] = same["changed"]
    record |= times | {"mlflow_run": same.get("mlflow_run")}
    if record != before:
        write_json(path, record)
    _mirror(path)


def find_evaluations(folder: Path) -> list[Path]:
    """The records of evaluations that lie right in a folder."""
    return sorted(Path(folder).glob(f"{Path(EVALUATION_RECORD).stem}*.json"))


def evaluations_below(folder: Path) -> list[Path]:
    """The records of evaluations in a folder and up to four levels below: RUNS/RUN/spectra/models/MODEL."""
    below = [path for depth in range(1, 5) for path in Path(folder).glob("*/" * depth) if path.is_dir()]
    return [record for path in (Path(folder), *sorted(below)) for record in find_evaluations(path)]


def evaluation_to_mlflow(path: Path) -> dict[str, int]:
    """Bring MLflow up to date with a record of an evaluation; how many values, files and tags were new, by these
    names. Raises whatever MLflow raises."""
    out, record = path.parent, read_evaluation(path)
    mlflow, _ = MLflowRun.open_evaluation(out, record, store_of(path))
    scores_digest = sha256_of([record["scores"], record["changed"]])
    anew = mlflow.tag("scores_digest") != scores_digest
    done = {"settings": mlflow.settings(flat_protocol(record["protocol"]))}
    done["values"] = mlflow.log_changed(_values(record))
    if record["mlflow_run"] != mlflow.run_id:
        write_json(path, record | {"mlflow_run": mlflow.run_id})
    files = [out / name for name in (record["page"], *record["pictures"]) if name is not None]
    done["files"] = sum(mlflow.artifact(each, anew=anew) for each in files if each.is_file())
    done["files"] += mlflow.keep(record, anew)
    tags = {"kind": EVALUATION, "evaluation": record["kind"], "model_digest": record["model"]}
    tags |= {"protocol_digest": record["protocol_digest"], "rnagan": record["rnagan"], "scores_digest": scores_digest}
    done["tags"] = mlflow.tags(tags | {name: record[name] for name in ("split_by", "claim") if name in record})
    mlflow.end("FINISHED", {}, record["changed"])
    return done


def flat_protocol(protocol: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The values of a protocol by their paths: {"a": {"b": 1}} becomes {"a/b": 1}."""
    found: dict[str, Any] = {}
    for name, value in protocol.items():
        nested = isinstance(value, Mapping)
        found |= flat_protocol(value, f"{before}{name}/") if nested else {f"{before}{name}": value}
    return found


def store_of(path: Path) -> Path:
    """The folder beside which the sqlite store of a record lies: the model's run, or the evaluation's own."""
    of = read_evaluation(path)["run"]
    return Path(of["folder"]) if of is not None and Path(of["folder"]).is_dir() else path.parent


def _mirror(path: Path) -> None:
    """Bring MLflow up to date, or warn. tests/conftest.py turns it off."""
    try:
        evaluation_to_mlflow(path)
    except Exception as error:  # whatever a tracking server does, the evaluation goes on
        warn_unreachable(error, "evaluation", path.parent)


def _run_and_digest(model: Path | str) -> tuple[Path | None, str]:
    """The run folder of a model, where it lies in the one that made it, and the digest of the model. A string is a
    digest."""
    if isinstance(model, str):
        return None, model
    folder = Path(model)
    digest = run_digest(folder)
    if digest is None:
        raise FileNotFoundError(f"{folder} holds no trained model; an evaluation is of a run or a model folder.")
    near = (folder, folder.resolve().parent)
    return next((run for run in near if read_record(run) and digest in model_tags(run).values()), None), digest


def _path(out: Path, kind: str) -> Path:
    """Where the record of this kind is or should be: evaluation_run.json, with the kind where that is of another."""
    first = out / EVALUATION_RECORD
    taken = first.is_file() and read_evaluation(first)["kind"] != kind
    return out / f"{first.stem}-{kind}.json" if taken else first


def _score(score: Mapping[str, Any]) -> dict[str, float | None]:
    """{"value", "low", "high"} as floats; the ends only where both are known."""
    numbers = {name: _finite(score.get(name)) for name in ("value", *_ENDS)}
    known = all(numbers[end] is not None for end in _ENDS)
    return numbers if known else {"value": numbers["value"]}


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _plain(value: Any) -> Any:
    """A protocol as JSON gives it back: paths as text, numbers of NumPy as numbers, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if value is None or isinstance(value, bool | int | str):
        return value
    return _finite(value) if isinstance(value, float) else str(value)


def _values(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an evaluation: NAME, and NAME/low and NAME/high where it has an interval."""
    found: dict[str, float | None] = {}
    for name, score in record["scores"].items():
        found |= {name: score["value"]} | {f"{name}/{end}": score.get(end) for end in _ENDS}
    return {name: value for name, value in found.items() if value is not None}
