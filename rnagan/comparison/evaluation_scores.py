"""Scores with intervals that evaluations of a run have left as JSON, in its folder or in folders of their own."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rnagan.comparison.metric_directions import HIGH, LOW, direction
from rnagan.io.files import read_json
from rnagan.reports.pages import measure_rows, retrieval_rows

_TOLD = {"low": LOW, "lower": LOW, "high": HIGH, "higher": HIGH}  # what a file may say of the better end


_TOLD = {"low": LOW, "lower": LOW, "high": HIGH, "higher": HIGH}  # what a file may say of the better end


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
    """What one JSON file says of a model: its digest where it is told, its scores, and how they were measured."""

    path: Path
    model: str | None
    scores: tuple[Score, ...]
    how: str = ""


def read_results(folder: Path) -> list[Results]:
    """The results in a folder, by file: evaluation.json of rnagan evaluate-faithfulness, and any JSON with a list
    `scores` of {"name", "value", "low", "high"} (and perhaps "better": low or high). Other files are no results."""
    found = [_results(path) for path in sorted(Path(folder).glob("*.json"))]
    return [results for results in found if results is not None]


def results_of_run(run: Path) -> list[Results]:
    """The results that lie in a run's folder, and in the folders right in it."""
    folders = [run, *sorted(path for path in run.iterdir() if path.is_dir())]
    return [results for folder in folders for results in read_results(folder)]


def results_of(folder: Path) -> list[Results]:
    """The results in a folder that a user named. Raises `FileNotFoundError` where there are none."""
    results = read_results(folder)
    if not results:
        raise FileNotFoundError(
            f"{folder} holds no results: no evaluation.json of rnagan evaluate-faithfulness and no other JSON file "
            "with a list of scores."
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


def _results(path: Path) -> Results | None:
    told = read_json(path)
    if not isinstance(told, dict):
        return None
    if {"tissue_accuracy", "tiles_per_profile", "profiles"} <= told.keys():
        how = f"{told['profiles']:,} profiles of split {told['split']}, {told['tiles_per_profile']} tiles each"
        return Results(path, told["model"], tuple(_of_evaluation(told)), how)
    if not isinstance(told.get("scores"), list):
        return None
    try:
        scores = tuple(_score(each) for each in told["scores"] if each["value"] is not None)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f'{path} has a score without a "name" or a number as its "value".') from None
    model = told.get("model")
    return Results(path, model if isinstance(model, str) else None, scores)


def _score(told: dict[str, Any]) -> Score:
    name, better = str(told["name"]), told.get("better")
    low, high = (None if told.get(end) is None else float(told[end]) for end in ("low", "high"))
    return Score(name, float(told["value"]), low, high, _TOLD.get(str(better)) or _way(name))


def _of_evaluation(told: dict[str, Any]) -> list[Score]:
    """r with its interval and slope by tissue and measure, then tissues and retrieval."""
    scores = []
    for row in measure_rows(told):
        of = f"{row['tissue']}, {row['measure']}"
        scores += [_named(f"r, {of}", row["r"], row["low"], row["high"]), _named(f"slope, {of}", row["slope"])]
    scores.append(_named("tissue called right", told["tissue_accuracy"]))
    for row in retrieval_rows(told):
        if row["tiles"] == "generated":
            name = f"place of the right donor, {row['tissue']}, among its {row['among']}"
            scores.append(_named(name, row["rank"], row["rank_low"], row["rank_high"]))
    return scores


def _named(name: str, value: float, low: float | None = None, high: float | None = None) -> Score:
    return Score(name, value, low, high, _way(name))


def _way(name: str) -> str | None:
    return direction(name).better
