"""Tables of several runs: one row a run, the long form of their metrics, and what a page shows side by side."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from rnagan.comparison.directions import best, best_row, direction
from rnagan.comparison.scores import Results, Score, scores_of
from rnagan.training.run_folder import RunFolder

CLOCK = ("images", "seconds")
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
    """What a page shows of one run in a row: text, a line under it, and whether it is the best of its row."""

    text: str
    note: str = ""
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of a page's table. `unlike`: settings or inputs in which the runs differ, so that no best is marked."""

    name: str
    cells: tuple[Cell, ...]
    unlike: tuple[str, ...] = ()


def parameters(entries: Sequence[Entry]) -> pd.DataFrame:
    """Settings, tags and digests of inputs as text, a row each and a column a run; "" where a run hasn't it."""
    columns = {entry.name: _told(entry.run) for entry in entries}
    return pd.DataFrame(columns, index=_in_order(columns.values()), dtype=object).fillna("")


def differ(table: pd.DataFrame) -> pd.Series:
    """Which rows of `parameters` aren't alike in all runs."""
    return table.nunique(axis=1) > 1


def metric_lines(entries: Sequence[Entry]) -> list[Line]:
    """The last value of every metric, and the best of those that have a better end; the best run is marked."""
    lines = []
    for name in _in_order(_final(entry.run) for entry in entries):
        if name.endswith(ENDS):
            continue  # shown beside its metric
        last = [_final(entry.run).get(name) for entry in entries]
        peaks = [best_row(entry.run.rows, name) for entry in entries]
        marked, unlike = _marked([None if row is None else row[name] for row in peaks], name, entries)
        cells = []
        for k, (row, peak) in enumerate(zip(last, peaks, strict=True)):
            note = "" if peak is None else f"best {figure(peak[name])} at {peak['images']:,}"
            cells.append(Cell(_of_row(row, name), note, k in marked) if row else Cell("–"))
        lines.append(Line(name, tuple(cells), unlike))
    return lines


def score_lines(entries: Sequence[Entry]) -> list[Line]:
    """Every score of the runs' evaluations, with intervals; the best is marked."""
    scores = [{score.name: score for score in entry.scores} for entry in entries]
    lines = []
    for name in _in_order(scores):
        own = [each.get(name) for each in scores]
        better = next((score.better for score in own if score), None)
        marked, unlike = _marked([None if score is None else score.value for score in own], name, entries, better)
        cells = [
            Cell(_with_interval(score.value, score.low, score.high), best=k in marked) if score else Cell("–")
            for k, score in enumerate(own)
        ]
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
        row |= {name: value for name, value in _told(run).items() if name not in row}
        row |= {f"final_{name}": value[name] for name, value in _final(run).items()}
        for name in _final(run):
            if (peak := best_row(run.rows, name)) is not None:
                row |= {f"best_{name}": peak[name], f"best_{name}_images": peak["images"]}
        for score in entry.scores:
            row[f"score_{score.name}"] = score.value
            if score.low is not None and score.high is not None:
                row |= {f"score_{score.name}_low": score.low, f"score_{score.name}_high": score.high}
        rows.append(row)
    return pd.DataFrame(rows, columns=_in_order(rows))


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


def _told(run: RunFolder) -> dict[str, str]:
    told = {name: str(value) for name, value in run.settings.items()}
    told |= {name: value for name, value in run.record.get("tags", {}).items() if name not in (*told, "model_digest")}
    return told | {f"digest of {name}": digest[:12] for name, digest in sorted(run.made_from.items())}


def _final(run: RunFolder) -> dict[str, dict[str, Any]]:
    """The last row that has a metric, by metric."""
    return {name: row for row in run.rows for name in row if name not in CLOCK}


def _marked(
    values: Sequence[float | None], name: str, entries: Sequence[Entry], better: str | None = None
) -> tuple[set[int], tuple[str, ...]]:
    """Which values are the best, unless the runs (those that have one) differ in what must be alike for that."""
    known = direction(name)
    there = [entry for entry, value in zip(entries, values, strict=True) if value is not None]
    unlike = tuple(what for what in known.alike if len({_must_be_alike(entry.run, what) for entry in there}) > 1)
    return (set() if unlike else best(values, better or known.better)), unlike


def _must_be_alike(run: RunFolder, what: str) -> str:
    return str(run.settings.get(what, run.made_from.get(what)))


def _of_row(row: Mapping[str, Any], name: str) -> str:
    return _with_interval(row[name], *(row.get(f"{name}{end}") for end in ENDS))


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    return figure(value) if low is None or high is None else f"{figure(value)} ({figure(low)} to {figure(high)})"


def _in_order(dictionaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, in the order in which they come first."""
    return list(dict.fromkeys(name for each in dictionaries for name in each))
