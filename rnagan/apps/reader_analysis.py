"""The analysis of a reader study: figures by tissue and source, tests, agreement, figure 6; tables and a page."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnagan.apps import reader_scores
from rnagan.apps.agreement import between_readers, with_oneself
from rnagan.apps.reader_figures import difference_figure
from rnagan.apps.reader_scores import by_reader, sources_in_order
from rnagan.apps.reader_tests import Paired, compare_sources, readers_needed
from rnagan.io.cells import safe_table
from rnagan.io.files import write_json, write_text
from rnagan.reports.console import aligned
from rnagan.reports.pages import embedded, write_template

RESULT, PAGE, FIGURE = "result.json", "report.html", "figure6.png"
CORRECTION = "Holm's correction over all tests of the table, of p on both sides"
MEASURES = {"quality": "quality", "right": "tissue named right", "artefact": "artefacts found"}
ALPHA, POWER = 0.05, 0.8


def analyse(
    table: pd.DataFrame, out: Path, lead: str, notes: list[str], *, article: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Analyse answers, as `reader_scores.complete` gives them, into `out`; returns what result.json holds.

    `lead` and `notes` say on the page what was read and how tiles were chosen. `article`: these are the article's
    scores, and its own figures are shown beside. Readers are the units: a reader's tiles of one tissue and source are
    averaged first. Raises `ValueError` where there is no answer.
    """
    if not table["quality"].notna().any():
        raise ValueError("No answer has a quality yet; analyse the study when readers have begun.")
    sources = sources_in_order(table)
    known = (table["called"] != "") & (table["tissue"] != "")
    table = table.assign(right=(table["called"] == table["tissue"]).where(known).astype(float))
    summary = [row for measure in MEASURES for row in _summary(table, measure, sources, article)]
    means = by_reader(table, "quality")
    tests = compare_sources(means, sources)
    result: dict[str, Any] = {
        "readers": int(table["reader"].nunique()),
        "answers": len(table),
        "sources": sources,
        "summary": summary,
        "tests": [_with_article(test, article) for test in tests],
        "correction": CORRECTION,
        "agreement": [found._asdict() for found in between_readers(table, seed)],
        "own_agreement": [found._asdict() for found in with_oneself(table)],
        "plans": [plan for test in tests if (plan := _plan(test)) is not None],
        "notes": notes,
    }
    if article:
        result["article"] = {
            "accuracy": {name: list(found) for name, found in reader_scores.ARTICLE_ACCURACY.items()},
            "artefacts": reader_scores.ARTICLE_ARTEFACTS,
        }
    _write(out, table, means, sources, result, lead)
    return result


def _summary(table: pd.DataFrame, measure: str, sources: list[str], article: bool) -> list[dict[str, Any]]:
    """Mean and SD (n − 1) over readers of a measure, for each tissue and source, and how many tiles that were."""
    answered = table[table[measure].notna()]
    if answered.empty:
        return []
    means = by_reader(answered, measure)
    tiles = answered[answered["tile"] != ""].groupby(["tissue", "source"])["tile"].nunique()
    rows = []
    for tissue in dict.fromkeys(means.columns.get_level_values("tissue")):
        for source in sources:
            if (tissue, source) not in means.columns:
                continue
            values = means[tissue, source].dropna()
            row = {"measure": measure, "tissue": tissue, "source": source, "mean": float(values.mean())}
            row |= {"sd": float(values.std(ddof=1)) if len(values) > 1 else None, "readers": len(values)}
            row["tiles"] = int(tiles.get((tissue, source), 0)) or None
            if article and measure == "quality":
                row["article_mean"], row["article_sd"] = reader_scores.ARTICLE_MEANS[tissue, source]
            rows.append(row)
    return rows


def _with_article(test: Paired, article: bool) -> dict[str, Any]:
    found = {name: None if value != value else value for name, value in test._asdict().items()}  # NaN is no JSON
    if article:
        found["article_p"] = reader_scores.ARTICLE_P.get((test.tissue, test.first, test.second))
    return found


def _plan(test: Paired) -> dict[str, Any] | None:
    """How many readers would find half a point and one point, with this test's SD of the differences."""
    if not test.sd or test.p is None:
        return None
    needed = {f"{points:g}": readers_needed(points, test.sd, ALPHA, POWER) for points in (0.5, 1.0)}
    return {"tissue": test.tissue, "first": test.first, "second": test.second, "sd": test.sd, "readers": needed}


def _write(
    out: Path, table: pd.DataFrame, means: pd.DataFrame, sources: list[str], result: dict[str, Any], lead: str
) -> None:
    difference_figure(out / FIGURE, means, result["tests"], sources)
    long = means.stack(["tissue", "source"], future_stack=True).rename("quality").dropna().reset_index()
    answers = table.drop(columns=[name for name in table if not table[name].notna().any()])
    tables = {"summary": pd.DataFrame(result["summary"]), "tests": pd.DataFrame(result["tests"])}
    tables |= {"agreement": pd.DataFrame(result["agreement"]), "readers": long, "answers": answers}
    for name, each in tables.items():
        write_text(out / f"{name}.csv", safe_table(each).to_csv(index=False))
    write_json(out / RESULT, result)
    write_template(
        out / PAGE,
        "reader_study.html",
        title="Reader study",
        lead=lead,
        found=result,
        measures=MEASURES,
        pictures=embedded([(out / FIGURE, "Figure 6: differences in quality; a dot a reader, bars 95% intervals.")]),
        level=ALPHA,
        power=POWER,
    )


def lines(result: dict[str, Any]) -> list[str]:
    """What the command prints: figures and tests."""
    shown = [
        {
            "measure": MEASURES[row["measure"]],
            "tissue": row["tissue"],
            "source": row["source"],
            "mean ± SD": f"{row['mean']:.2f} ± " + ("–" if row["sd"] is None else f"{row['sd']:.2f}"),
            "readers": str(row["readers"]),
            "article": f"{row['article_mean']:.2f} ± {row['article_sd']:.2f}" if "article_mean" in row else "",
        }
        for row in result["summary"]
    ]
    tests = [
        {
            "tissue": test["tissue"],
            "first": test["first"],
            "second": test["second"],
            "difference": "–" if test["difference"] is None else f"{test['difference']:+.2f}",
            "p": _p(test["p"]),
            "p, first better": _p(test["p_first_better"]),
            "Holm's p": _p(test["p_holm"]),
            "article's p": _p(test.get("article_p")),
        }
        for test in result["tests"]
    ]
    said = [f"{result['readers']:,} readers, {result['answers']:,} answers.", *aligned(shown)]
    if tests:
        said += ["", f"Paired t-tests over readers, p on both sides; {result['correction']}.", *aligned(tests)]
    return said


def _p(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.3f}"
