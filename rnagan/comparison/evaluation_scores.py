"""Scores with intervals that evaluations of a run left: in its folder, in folders beside it, and in MLflow."""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rnagan.comparison.metric_directions import HIGH, LOW, direction
from rnagan.evaluation import faithfulness
from rnagan.io.json_values import check_json
from rnagan.tracking.evaluations import EVALUATION_RECORD, evaluations_below, find_evaluations, read_evaluation
from rnagan.tracking.mlflow_store import has_store, recorded_evaluations
from rnagan.tracking.old_results import read_result
from rnagan.tracking.run_folder import RunFolder

_STATED = {"low": LOW, "lower": LOW, "high": HIGH, "higher": HIGH}  # what a file may say of the better end


@dataclasses.dataclass(frozen=True)
class Score:
    """One figure, and its interval where there is one. `better`: which way, or None."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    better: str | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """The scores of one evaluation of a model: the digest of the model, where it is known, and the protocol.

    `path`: the file. `key`, `changed` (Unix time): of its record; a file without a record has neither.
    """

    path: Path
    model: str | None
    scores: tuple[Score, ...]
    kind: str = ""
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    key: str | None = None
    changed: float = 0.0


def find_results(run: RunFolder) -> list[Results]:
    """All results of a run, each evaluation once: those in its folder and in folders right in it, those of its models
    further down or beside it, and those in MLflow. A store that can't be reached costs a warning."""
    digests, found = digests_of(run), results_of_run(run.folder)
    around = [path for path in _folders_in(run.folder.resolve().parent) if path != run.folder.resolve()]
    for folder in (run.folder, *around):
        records = [_of_record(path, read_evaluation(path)) for path in evaluations_below(folder)]
        found += [results for results in records if results.model in digests]
    if digests and has_store(run.folder):
        try:
            stored = recorded_evaluations(run.folder, sorted(digests))
            found += [_of_record(folder / EVALUATION_RECORD, record) for folder, record in stored]
        except Exception as error:  # whatever a tracking server does, the runs are compared
            warnings.warn(
                f"MLflow is not reachable ({type(error).__name__}: {str(error)[:200]}); evaluations of {run.folder} "
                "that lie in MLflow alone are left out.",
                stacklevel=2,
            )
    return once(found)


def once(results: Iterable[Results]) -> list[Results]:
    """Each recorded evaluation once, as it was recorded last; files without a record stay as they are."""
    found: dict[Any, Results] = {}
    for each in results:
        key = each.key or each.path.resolve()
        if key not in found or each.changed > found[key].changed:
            found[key] = each
    return list(found.values())


def digests_of(run: RunFolder) -> set[str]:
    """The digests of a run's models."""
    return {digest for digest in (run.digest, run.best_digest) if digest is not None}


def read_results(folder: Path) -> list[Results]:
    """The results right in a folder: from its records of evaluations, and from nothing else where it has any.

    Without a record: evaluation.json of evaluate-faithfulness, and any JSON with a list `scores` of {"name", "value",
    "low", "high"} (and perhaps "better": low or high). Other files are no results.
    """
    recorded = find_evaluations(folder)
    if recorded:
        return [_of_record(path, read_evaluation(path)) for path in recorded]
    found = [_without_record(path) for path in sorted(Path(folder).glob("*.json"))]
    return [results for results in found if results is not None]


def results_of_run(run: Path) -> list[Results]:
    """The results that lie in a run's folder, and in the folders right in it."""
    return [results for folder in (run, *_folders_in(run)) for results in read_results(folder)]


def results_of(folder: Path) -> list[Results]:
    """The results in a folder that a user named. Raises `FileNotFoundError` where there are none."""
    results = read_results(folder)
    if not results:
        raise FileNotFoundError(
            f"{folder} holds no results: no {EVALUATION_RECORD}, no evaluation.json of evaluate-faithfulness and no "
            "other JSON file with a list of scores."
        )
    return results


def scores_of(results: Iterable[Results]) -> tuple[Score, ...]:
    """All scores by name; where two files have one of the same name, the later file's says its folder too."""
    found: dict[str, Score] = {}
    for each in results:
        for score in each.scores:
            name = score.name if score.name not in found else f"{score.name} ({each.path.parent.name}/{each.path.stem})"
            found[name] = dataclasses.replace(score, name=name)
    return tuple(found.values())


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/") if path.is_dir())  # glob leaves out what can't be read


def _of_record(path: Path, record: Mapping[str, Any]) -> Results:
    scores = tuple(
        Score(name, score["value"], score.get("low"), score.get("high"), direction(name).better)
        for name, score in record["scores"].items()
        if score["value"] is not None
    )
    return Results(path, record["model"], scores, *(record[name] for name in ("kind", "protocol", "key", "changed")))


def _without_record(path: Path) -> Results | None:
    result = read_result(path)
    if not isinstance(result, dict):
        return None
    if {"tissue_accuracy", "tiles_per_profile", "profiles"} <= result.keys():
        check_json(result, faithfulness.Result, path)
        how = {name: result[name] for name in ("profiles", "split", "tiles_per_profile")}
        record = {"model": result["model"], "scores": faithfulness.scores_of(result), "kind": "faithfulness"}
        return _of_record(path, record | {"protocol": how, "key": None, "changed": 0.0})
    if not isinstance(result.get("scores"), list):
        return None
    try:
        scores = tuple(_score(each) for each in result["scores"] if each["value"] is not None)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f'{path} has a score without a "name" or a number as its "value".') from None
    protocol = result.get("protocol", {})
    protocol = protocol if isinstance(protocol, dict) else {}
    model = result.get("model", protocol.get("model"))
    return Results(path, model if isinstance(model, str) else None, scores, path.stem, protocol)


def _score(score: dict[str, Any]) -> Score:
    """A score of a file's list; of one tissue where the file says a part."""
    name = f"{score['part']}/{score['name']}" if "part" in score else str(score["name"])
    low, high = (None if score.get(end) is None else float(score[end]) for end in ("low", "high"))
    better = _STATED.get(str(score.get("better"))) or direction(name).better
    return Score(name, float(score["value"]), low, high, better)
