"""The table of generators as CSV, JSON, one page, and lines for a terminal."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rnagan.cohort.table import claim_of
from rnagan.comparison.generator_cells import Cell, Result
from rnagan.comparison.generator_scores import Evaluation, Figure
from rnagan.comparison.metric_directions import HIGH, LOW, ONE, best, direction
from rnagan.comparison.run_tables import figure, in_order
from rnagan.evaluation.features import took_part
from rnagan.evaluation.tile_scores import extractor_of
from rnagan.io.cells import safe_table
from rnagan.io.claim import stating, with_claim
from rnagan.io.files import atomic_path, write_json
from rnagan.reports.console import aligned
from rnagan.reports.figures import curves, run_style
from rnagan.reports.labels import network_label
from rnagan.reports.pages import embedded, write_template

CSV, JSON, PAGE = "generators.csv", "generators.json", "generators.html"
CONTROL = "site_stain"  # which the profile shouldn't make
_BINDING = ("real_pairs", "faithfulness", "on_real_tiles")  # the first that a cell has

Scores = Mapping[str, Figure]


class Column(NamedTuple):
    """A figure of a row: its title, how it is found in a result (None where it isn't there), and its better end."""

    title: str
    of: Callable[[Mapping[str, Any]], float | None]
    better: str | None


class TableFigure(NamedTuple):
    """A row's figure as text (mean over seeds, and their range), and whether it is the best of its column."""

    text: str
    best: bool
    note: str


def write_table(out: Path, done: Sequence[tuple[Cell, Result]], how: Evaluation) -> list[str]:
    """Write the three files for the cells that are done; lines for a terminal."""
    results = [result for _, result in done]
    claim = claim_of(results[0]["split_by"])
    with stating(claim):
        rows = [_flat(result) for result in results]
        with atomic_path(out / CSV) as temporary:
            safe_table(with_claim(pd.DataFrame(rows, columns=in_order(rows)))).to_csv(temporary, index=False)
        write_json(out / JSON, results)
        names = list(dict.fromkeys(result["row"] for result in results))
        of_row = {name: [result for result in results if result["row"] == name] for name in names}
        columns = _columns(results)
        summary = _table(of_row, columns)
        measures = _measure_columns(results)
        few = next((result["few_tiles"] for result in results if result["few_tiles"]), "")
        notes = list(dict.fromkeys(note for result in results for note in result["notes"]))
        write_template(
            out / PAGE,
            PAGE,
            title=f"{len(names)} generators",
            lead=_lead(results, how),
            names=names,
            about={name: _about(own) for name, own in of_row.items()},
            colours=[run_style(k)["color"] for k in range(len(names))],
            columns=columns,
            summary=summary,
            measures=measures,
            of_measures=_table(of_row, measures),
            notes=[
                *filter(None, [few, _unlike(results)]),
                *(note for note in notes if claim is None or note != claim.sentence),
            ],
            charts=embedded(_curves(out, results)),
            pictures={name: embedded(_pictures(done, name)) for name in names},
            results=results,
        )
    said = [
        {"generator": name}
        | {
            column.title: shown.text + (" *" if shown.best else "")
            for column, shown in zip(columns, summary[name], strict=True)
        }
        for name in names
    ]
    return [*aligned(said), "", *filter(None, [few]), f"Page: {out / PAGE}"]


def _lead(results: Sequence[Result], how: Evaluation) -> str:
    seeds = sorted({result["seed"] for result in results})
    first = results[0]
    return (
        f"Each was trained for {first['budget_seconds']:,.0f} s of computing ({first['counted']}, its start with them) "
        f"on the same tiles and profiles, on {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, and evaluated on split "
        f"{first['split']} with {first['tiles_per_profile']} tiles a profile."
    )


def _about(own: Sequence[Result]) -> str:
    first = own[0]
    return f"family {first['family']}, preset {first['preset']}; seeds {', '.join(str(each['seed']) for each in own)}"


def _flat(result: Result) -> dict[str, Any]:
    """A row of the CSV: what a cell is, then each score, NAME, NAME_low and NAME_high."""
    plain = ("row", "family", "preset", "seed", "budget_seconds", "seconds", "counted", "images", "model", "split")
    row: dict[str, Any] = {name: result[name] for name in plain}  # type: ignore[literal-required]
    row["seconds_per_1000_tiles"] = result["seconds_per_1000_tiles"]
    for name, score in result["scores"].items():
        row[name] = score["value"]
        row |= {f"{name}_{end}": score[end] for end in ("low", "high") if end in score}
    return row


def binding(scores: Scores, what: str, part: str = "") -> dict[str, float]:
    """r, slope or place (`what`) of everything that is measured, by TISSUE/MEASURE, or by tissue or section; of real
    pairs where there are any, else of held-out donors. `part`: as `calibrated/`."""
    for kind in _BINDING:
        start = f"{part}{kind}/"
        if what == "place":
            found = {name: score["value"] for name, score in scores.items() if _is_place(name, part, kind)}
        else:
            found = {
                name.removeprefix(start).removesuffix(f"/{what}"): score["value"]
                for name, score in scores.items()
                if name.startswith(start) and name.endswith(f"/{what}") and CONTROL not in name
            }
        if found:
            return found
    return {}


def _is_place(name: str, part: str, kind: str) -> bool:
    if kind == "real_pairs":
        return name.startswith(f"{part}real_pairs/") and name.endswith("/place")
    return name.startswith(f"{part}retrieval/") and name.endswith("/generated/tissue/rank")


def _mean(values: Mapping[str, float]) -> float | None:
    return statistics.fmean(values.values()) if values else None


def _columns(results: Sequence[Result]) -> list[Column]:
    """The figures of the first table, in order."""
    columns = [Column("images", lambda result: result["images"], None)]
    for name in in_order(result["scores"] for result in results):
        part, _, score = name.partition("/")
        if part == "all" and score.startswith(("frechet", "fid", "kernel", "kid", "precision", "recall")):
            columns.append(Column(score.replace("_", " "), _reader(name), direction(name).better))
    columns += [
        Column("r, mean", lambda result: _mean(binding(result["scores"], "r")), HIGH),
        Column("slope, mean", lambda result: _mean(binding(result["scores"], "slope")), ONE),
        Column("slope, calibrated", lambda result: _mean(binding(result["scores"], "slope", "calibrated/")), ONE),
        Column("r, calibrated", lambda result: _mean(binding(result["scores"], "r", "calibrated/")), HIGH),
        Column("place of the right one", lambda result: _mean(binding(result["scores"], "place")), LOW),
        Column("near copies, share", _reader("copies/share"), LOW),
        Column("copies", _reader("copies/called"), LOW),
        Column("s per 1,000 tiles", lambda result: result["seconds_per_1000_tiles"], LOW),
    ]
    return [column for column in columns if any(column.of(result) is not None for result in results)]


def _measure_columns(results: Sequence[Result]) -> list[Column]:
    """r and slope of every measure, and every place."""
    found: list[Column] = []
    for what, better in (("r", HIGH), ("slope", ONE), ("place", LOW)):
        for name in in_order(binding(result["scores"], what) for result in results):
            short = name.removeprefix("retrieval/").removesuffix("/generated/tissue/rank")
            short = short.removeprefix("real_pairs/").removesuffix("/place")
            title = f"{short}, {what}".replace("_", " ")
            found.append(Column(title, _binding_reader(name, what), better))
    return found


def _reader(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda result: result["scores"].get(name, {}).get("value")


def _binding_reader(name: str, what: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda result: binding(result["scores"], what).get(name)


def _table(of_row: Mapping[str, Sequence[Result]], columns: Sequence[Column]) -> dict[str, list[TableFigure]]:
    """Each row's figures in the order of the columns: means over seeds."""
    shown: dict[str, list[TableFigure]] = {name: [] for name in of_row}
    for column in columns:
        values = {
            name: [value for each in own if (value := column.of(each)) is not None] for name, own in of_row.items()
        }
        means = [statistics.fmean(own) if own else None for own in values.values()]
        labels = {name: _label(column, own[0]) for name, own in of_row.items()}
        best_of = best(means, column.better) if len(set(labels.values())) == 1 else set()
        for k, (name, own) in enumerate(values.items()):
            text = "–" if means[k] is None else figure(means[k])  # type: ignore[arg-type]
            if len(own) > 1 and not math.isclose(min(own), max(own)):
                text += f" ({figure(min(own))} to {figure(max(own))})"
            shown[name].append(TableFigure(text, k in best_of, labels[name]))
    return shown


def _label(column: Column, result: Result) -> str:
    """What the network behind a column was in a row's training; "" where no network is."""
    extractor = extractor_of(column.title.replace(" ", "_"))
    return network_label(
        None if extractor is None else took_part(extractor, result["settings"].get("backbone", "none"))
    )


def _unlike(results: Sequence[Result]) -> str:
    backbones = {result["settings"].get("backbone", "none") for result in results}
    return (
        ""
        if len(backbones) == 1
        else "A network that was some row's critic flatters that row: in its columns no best is marked."
    )


def _curves(out: Path, results: Sequence[Result]) -> list[tuple[Path, str]]:
    """A picture for each option over which cells have a curve: the first table's figures against it, a line a row."""
    pictures = []
    for option in dict.fromkeys(point["option"] for result in results for point in result["curve"]):
        own = [result for result in results if any(point["option"] == option for point in result["curve"])]
        columns = [column for column in _columns(own) if column.of(_at(own[0], own[0]["curve"][0])) is not None]
        columns = [column for column in columns if column.title not in ("images", "s per 1,000 tiles")]
        columns = [column for column in columns if not column.title.startswith(("near copies", "copies"))]
        lines: dict[str, list[dict[str, Any]]] = {}
        for result in own:
            points = [
                {option: point["value"]}
                | {column.title: value for column in columns if (value := column.of(_at(result, point))) is not None}
                for point in result["curve"]
            ]
            lines[f"{result['row']}, seed {result['seed']}"] = points
        path = out / "curves" / f"{option}.png"
        curves(path, lines, {column.title: column.title for column in columns}, option, option)
        pictures.append((path, f"Against {option}."))
    return pictures


def _at(result: Result, point: Mapping[str, Any]) -> dict[str, Any]:
    return {**result, "scores": point["scores"]}


def _pictures(done: Sequence[tuple[Cell, Result]], name: str) -> list[tuple[Path, str]]:
    """The pictures of a row's first cell."""
    cell, result = next((cell, result) for cell, result in done if result["row"] == name)
    return [(cell.folder / path, f"{name}: {Path(path).stem}") for path in result["pictures"]]
