"""Tables of several runs: one row a run, the long form of their metrics, and what a page shows side by side."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from rnagan.comparison.evaluation_scores import Results, Score, scores_of
from rnagan.comparison.metric_directions import best, best_row, direction
from rnagan.evaluation.features import took_part
from rnagan.evaluation.tile_scores import extractor_of
from rnagan.reports.labels import network_label
from rnagan.tracking.mlflow_store import MODEL_TAGS
from rnagan.tracking.run_folder import RunFolder

CLOCK = ("images", "seconds")
_DIGESTS = (*MODEL_TAGS, "dataset_digest")  # tags that repeat the folder
ENDS = ("_low", "_high")  # of an interval: a metric NAME beside NAME_low and NAME_high


@dataclasses.dataclass(frozen=True)
class Entry:
    """A run in a comparison: its name there, its folder, and what evaluations found."""

    name: str
    run: RunFolder
    results: tuple[Results, ...] = ()

    @property
    def scores(self) -> tuple[Score, ...]:
        return scores_of(self.results)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a page shows of one run in a row: text, and a line under it; each may be the best of its row.

    `apart`: the interval of the best doesn't reach that of any other run. `network`: whether the one behind the score
    was the critic's in training (`network_label`); "" where no network is.
    """

    text: str
    note: str = ""
    best: bool = False
    apart: bool = False
    note_best: bool = False
    network: str = ""


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of a page's table. `unlike`: settings or inputs in which the runs differ, so that no best is marked."""

    name: str
    cells: tuple[Cell, ...]
    unlike: tuple[str, ...] = ()


def parameters(entries: Sequence[Entry]) -> pd.DataFrame:
    """Settings, tags and digests of inputs as text, a row each and a column a run; "" where a run hasn't it."""
    columns = {entry.name: _parameters(entry.run) for entry in entries}
    return pd.DataFrame(columns, index=in_order(columns.values()), dtype=object).fillna("")


def differ(table: pd.DataFrame) -> pd.Series:
    """Which rows of `parameters` aren't alike in all runs."""
    return table.nunique(axis=1) > 1


def metric_lines(entries: Sequence[Entry]) -> list[Line]:
    """The last value of every metric, and the best of those that have a better end; the best of both are marked."""
    lines = []
    for name in in_order(_final(entry.run) for entry in entries):
        if name.endswith(ENDS):
            continue  # shown beside its metric
        last = [_final(entry.run).get(name) for entry in entries]
        peaks = [best_row(entry.run.rows, name) for entry in entries]
        finals = [None if row is None else _score_of_row(row, name) for row in last]
        marked, unlike = _marked(finals, name, entries)
        top, _ = _marked([None if row is None else _score_of_row(row, name) for row in peaks], name, entries)
        cells = []
        for k, (score, peak) in enumerate(zip(finals, peaks, strict=True)):
            note = "" if peak is None else f"best {figure(peak[name])} at {peak['images']:,}"
            cell = _cell(score, k in marked, finals, entries[k].run)
            cells.append(dataclasses.replace(cell, note=note, note_best=k in top))
        lines.append(Line(name, tuple(cells), unlike))
    return lines


def score_lines(entries: Sequence[Entry]) -> list[Line]:
    """Every score of the runs' evaluations, with intervals; the best is marked."""
    scores = [{score.name: score for score in entry.scores} for entry in entries]
    lines = []
    for name in in_order(scores):
        own = [each.get(name) for each in scores]
        marked, unlike = _marked(own, name, entries)
        cells = [_cell(score, k in marked, own, entries[k].run) for k, score in enumerate(own)]
        lines.append(Line(name, tuple(cells), unlike))
    return lines


def runs_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """runs.csv: one row a run; `final_…` and `best_…` of its metrics, `score_…` of its evaluations."""
    rows = []
    for entry in entries:
        run = entry.run
        row: dict[str, Any] = {"name": entry.name, "folder": str(run.folder), "state": run.state}
        row |= {"images": run.images, "images_in_all": run.total, "seconds": run.seconds}
        row |= {"images_per_second": speed(run), "model_digest": run.digest}
        row |= {name: value for name, value in _parameters(run).items() if name not in row}
        row |= {f"final_{name}": value[name] for name, value in _final(run).items()}
        for name in _final(run):
            if (peak := best_row(run.rows, name)) is not None:
                row |= {f"best_{name}": peak[name], f"best_{name}_images": peak["images"]}
        for score in entry.scores:
            row[f"score_{score.name}"] = score.value
            if score.low is not None and score.high is not None:
                row |= {f"score_{score.name}_low": score.low, f"score_{score.name}_high": score.high}
        rows.append(row)
    return pd.DataFrame(rows, columns=in_order(rows))


def metrics_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """metrics.csv: run, images, seconds, metric, value, as each run measured them."""
    rows = [
        (entry.name, row["images"], row["seconds"], name, value)
        for entry in entries
        for row in entry.run.rows
        for name, value in row.items()
        if name not in CLOCK
    ]
    return pd.DataFrame(rows, columns=["run", "images", "seconds", "metric", "value"])


def speed(run: RunFolder) -> float | None:
    """Images (profiles) a second over the whole run, validation included."""
    return round(run.rows[-1]["images"] / run.seconds, 2) if run.seconds else None


def figure(value: float) -> str:
    """A number in four digits."""
    return f"{value:,.0f}" if abs(value) >= 1e4 and math.isfinite(value) else f"{value:.4g}"


def _parameters(run: RunFolder) -> dict[str, str]:
    """Settings, tags and digests of inputs of a run, as text."""
    found = {name: str(value) for name, value in run.settings.items()}
    found |= {name: value for name, value in run.record.get("tags", {}).items() if name not in (*found, *_DIGESTS)}
    return found | {f"digest of {name}": digest[:12] for name, digest in sorted(run.made_from.items())}


def _final(run: RunFolder) -> dict[str, dict[str, Any]]:
    """The last row that has a metric, by metric."""
    return {name: row for row in run.rows for name in row if name not in CLOCK}


def _marked(scores: Sequence[Score | None], name: str, entries: Sequence[Entry]) -> tuple[set[int], tuple[str, ...]]:
    """Which scores are the best, unless the runs (those that have one) differ in what must be alike for that."""
    there = [entry.run for entry, score in zip(entries, scores, strict=True) if score is not None]
    unlike = tuple(what for what in direction(name).alike if len({_must_be_alike(run, what) for run in there}) > 1)
    if len({_network(run, name) for run in there}) > 1:
        unlike += ("part of the extractor in training",)
    better = next((score.better for score in scores if score is not None), None)
    values = [None if score is None else score.value for score in scores]
    return (set() if unlike else best(values, better)), unlike


def _must_be_alike(run: RunFolder, what: str) -> str:
    return str(run.settings.get(what, run.made_from.get(what)))


def _score_of_row(row: Mapping[str, Any], name: str) -> Score:
    low, high = (row.get(f"{name}{end}") for end in ENDS)
    return Score(name, row[name], low, high, direction(name).better)


def _network(run: RunFolder, name: str) -> str:
    """What the network behind a score was in a run's training; "" for a score without any."""
    extractor = extractor_of(name)
    return network_label(None if extractor is None else took_part(extractor, run.settings.get("backbone", "none")))


def _cell(score: Score | None, is_best: bool, beside: Sequence[Score | None], run: RunFolder) -> Cell:
    if score is None:
        return Cell("–")
    others = [other for other in beside if other is not None and other is not score]
    text = figure(score.value)
    if score.low is not None and score.high is not None:
        text += f" ({figure(score.low)} to {figure(score.high)})"
    apart = is_best and all(_apart(score, other) for other in others)
    return Cell(text, best=is_best, apart=apart, network=_network(run, score.name))


def _apart(one: Score, other: Score) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low > other.high or one.high < other.low


def in_order(dictionaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, in the order of their first appearance."""
    return list(dict.fromkeys(name for each in dictionaries for name in each))
