"""Several runs of one kind side by side: one page, two tables, and a few lines for a terminal."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rnagan.comparison import sample_grids
from rnagan.comparison.evaluation_scores import Results, digests_of, find_results, once, results_of
from rnagan.comparison.run_tables import (
    Cell,
    Entry,
    Line,
    differ,
    in_order,
    metric_lines,
    metrics_table,
    parameters,
    runs_table,
    score_lines,
    speed,
)
from rnagan.evaluation.tile_scores import few_tiles
from rnagan.io.cells import safe_table
from rnagan.io.files import atomic_path
from rnagan.io.tables import first_few
from rnagan.reports.console import aligned
from rnagan.reports.figures import curves, run_style
from rnagan.reports.pages import embedded, write_template
from rnagan.tracking.evaluations import flat_protocol
from rnagan.tracking.run_folder import KINDS, SEEN, TILES, RunFolder, check_one_kind, find_runs

PAGE = "compare.html"
METRICS_SHOWN = 4  # on the terminal
_SHA256 = re.compile("[0-9a-f]{64}")


def compare_runs(
    paths: Sequence[Path],
    out: Path,
    names: Sequence[str] = (),
    evaluations: Sequence[tuple[str, Path]] = (),
    x: str = "images",
) -> list[str]:
    """Write `out/compare.html`, `out/runs.csv`, `out/metrics.csv` and the page's pictures; returns a summary's lines.

    `paths`: run folders, or folders of them; `names`: what to call them, else their folders' names. `evaluations`:
    (run's name, folder of results), beside those that are found by themselves: in the run's folder, in folders beside
    it and in MLflow (`find_results`). `x`: images or seconds, the curves' axis. Raises `ValueError` or
    `FileNotFoundError` with one sentence on what can't be compared.
    """
    runs = [RunFolder.open(path) for path in find_runs(paths)]
    if len(runs) < 2:
        raise ValueError(f"{runs[0].folder} is one run alone; name two or more, or a folder that holds them.")
    check_one_kind(runs)
    entries = _with_results(dict(zip(_names(runs, names), runs, strict=True)), evaluations)
    notes = [*_foreign(entries), *_measured_otherwise(entries)]
    for name, table in (("runs.csv", runs_table(entries)), ("metrics.csv", metrics_table(entries))):
        with atomic_path(out / name) as temporary:
            safe_table(table).to_csv(temporary, index=False)
    table = parameters(entries)
    metrics, scores = metric_lines(entries), score_lines(entries)
    notes += filter(None, [few_tiles(line.name for line in (*metrics, *scores))])
    kind, shown = runs[0].kind, _grids(entries, out)
    write_template(
        out / PAGE,
        PAGE,
        title=f"{len(entries)} runs of {KINDS[kind]}",
        entries=entries,
        colours=[run_style(k)["color"] for k in range(len(entries))],
        seen=SEEN[kind],
        speeds=[speed(entry.run) for entry in entries],
        differing=table[differ(table)],
        alike=table[~differ(table)],
        metrics=metrics,
        scores=scores,
        notes=notes,
        charts=embedded(_curves(entries, metrics, out, x)),
        grids=shown,
    )
    return [*_summary(entries, table, metrics, scores), *notes, *shown["notes"], "", f"Page: {out / PAGE}"]


def _names(runs: Sequence[RunFolder], names: Sequence[str]) -> list[str]:
    """Names given, or as many last parts of the folders' paths as tell them apart."""
    if names and (len(names) != len(runs) or len(set(names)) != len(names)):
        raise ValueError(f"{len(runs)} runs need as many names, each its own, not {len(names)} ({', '.join(names)}).")
    parts = [run.folder.resolve().parts for run in runs]
    found = list(names) or [own[-1] for own in parts]
    depth = 2
    while len(set(found)) < len(found):
        alike = {name for name in found if found.count(name) > 1}
        found = ["/".join(own[-depth:]) if name in alike else name for name, own in zip(found, parts, strict=True)]
        depth += 1
    return found


def _with_results(runs: Mapping[str, RunFolder], evaluations: Sequence[tuple[str, Path]]) -> list[Entry]:
    unknown = [name for name, _ in evaluations if name not in runs]
    if unknown:
        raise ValueError(f"No run here is called {unknown[0]!r}; an evaluation is of one of {', '.join(runs)}.")
    found = {name: find_results(run) for name, run in runs.items()}
    for name, folder in evaluations:
        found[name] += results_of(folder)
    return [Entry(name, run, tuple(once(found[name]))) for name, run in runs.items()]


def _foreign(entries: Sequence[Entry]) -> list[str]:
    """Notes on results of another state of a run; refuses those of another of these runs."""
    owners = {digest: entry.name for entry in entries for digest in digests_of(entry.run)}
    notes = []
    for entry in entries:
        for results in entry.results:
            if results.model is None or results.model in digests_of(entry.run):
                continue
            if results.model in owners:
                raise ValueError(f"{results.path} is of {owners[results.model]}, not of {entry.name}.")
            notes.append(
                f"{results.path} was measured on another model ({results.model[:12]}) than {entry.name} has now: "
                "evaluate it again."
            )
    return notes


def _measured_otherwise(entries: Sequence[Entry]) -> list[str]:
    """Notes on evaluations of one kind whose protocols differ between runs."""
    kinds = in_order({results.kind: None for results in entry.results if results.protocol} for entry in entries)
    notes = []
    for kind in kinds:
        protocols = {entry.name: _last_protocol(kind, entry.results) for entry in entries}
        own = {name: protocol for name, protocol in protocols.items() if protocol}
        fields = [field for field in in_order(own.values()) if all(field in protocol for protocol in own.values())]
        differing = [
            f"{field} ({', '.join(f'{name}: {_brief(protocol[field])}' for name, protocol in own.items())})"
            for field in fields
            if field != "model" and len({str(protocol[field]) for protocol in own.values()}) > 1
        ]
        if differing:
            notes.append(f"The evaluations ({kind}) were not made alike: {first_few(differing)} differ.")
    return notes


def _brief(value: object) -> str:
    """A value as text, a SHA-256 by its first digits."""
    text = str(value)
    return text[:12] if _SHA256.fullmatch(text) else text


def _last_protocol(kind: str, results: Sequence[Results]) -> dict[str, Any]:
    own = [each for each in results if each.kind == kind]
    return flat_protocol(max(own, key=lambda each: each.changed).protocol) if own else {}


def _curves(entries: Sequence[Entry], metrics: Sequence[Line], out: Path, x: str) -> list[tuple[Path, str]]:
    """A picture for each group of metrics (the part of a name before /), with its caption."""
    seen = SEEN[entries[0].run.kind]
    groups: dict[str, dict[str, str]] = {}
    for line in metrics:
        group, slash, _ = line.name.partition("/")
        groups.setdefault(group if slash else "losses", {})[line.name] = line.name
    drawn = []
    for group, panels in groups.items():
        path = out / "curves" / f"{group.replace(os.sep, '_')}.png"
        curves(path, {entry.name: entry.run.rows for entry in entries}, panels, seen if x == "images" else x, x)
        drawn.append((path, f"{group.replace('_', ' ').capitalize()}, against {seen if x == 'images' else x}."))
    return drawn


def _grids(entries: Sequence[Entry], out: Path) -> dict[str, Any]:
    """Pictures of sample grids, and notes on them."""
    runs = {entry.name: entry.run for entry in entries if entry.run.sample_grids()}
    if entries[0].run.kind not in TILES or len(runs) < 2:
        return {"pictures": [], "notes": []}
    missing = [entry.name for entry in entries if entry.name not in runs]
    notes = [f"No sample grid: {', '.join(missing)}."] if missing else []
    if why := sample_grids.why_not_the_same(runs):
        notes.append(f"The sample grids don't show the same profiles with the same noise: {'; '.join(why)} differ.")
    counts = sample_grids.nearest_counts({name: list(run.sample_grids()) for name, run in runs.items()})
    going, end = out / "samples.png", out / "samples_last.png"
    sample_grids.draw_as_training_goes(going, runs, counts)
    sample_grids.draw_at(end, runs, counts[-1])
    captions = [
        (going, "Sample grids as training goes: a column a profile. Synthetic tiles."),
        (end, f"Sample grids at {sample_grids.count_title(counts[-1])}: a row a profile. Synthetic tiles."),
    ]
    return {"pictures": embedded(captions), "notes": notes}


def _summary(
    entries: Sequence[Entry], table: pd.DataFrame, metrics: Sequence[Line], scores: Sequence[Line]
) -> list[str]:
    """A short table: state, speed, and the first figures that have a better end (* the best)."""
    marked = [line for line in (*scores, *metrics) if any(cell.best for cell in line.cells)]
    marked = [line for line in marked if not line.name.endswith("/slope")][:METRICS_SHOWN]
    rows = []
    for k, entry in enumerate(entries):
        pace = speed(entry.run)
        row = {"run": entry.name, "state": entry.run.state}
        row |= {f"{SEEN[entry.run.kind]}/s": "–" if pace is None else f"{pace:g}"}
        row |= {line.name: _said(line.cells[k]) for line in marked}
        rows.append(row)
    own = table[differ(table)]
    lines = [f"{name} ({', '.join(value or '–' for value in values)})" for name, values in own.iterrows()]
    return [*aligned(rows), "", f"{len(table) - len(own)} parameters alike; different: {first_few(lines, 6) or 'none'}"]


def _said(cell: Cell) -> str:
    return cell.text + (f", {cell.network}" if cell.network else "") + (" *" if cell.best else "")
