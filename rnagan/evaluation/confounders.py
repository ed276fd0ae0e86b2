"""What did a model learn of the tissue: morphology, or the centre's stain, autolysis, age and sex?

Within a tissue, over donors: what the measures of generated and of real tiles go along with, where their variance
comes from, and how much of the agreement between the two is left when the covariates are regressed out of both.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from rnagan.evaluation.covariates import OfTissue, of_donors
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.probe import linear_probe
from rnagan.evaluation.stats import (
    FEWEST_DONORS,
    Interval,
    as_dict,
    beyond,
    by_donor,
    correlate,
    design,
    enough,
    eta_squared,
    partition,
)
from rnagan.reports.labels import ALL, WORDS, label
from rnagan.runtime import progress


@dataclasses.dataclass(frozen=True)
class Tables:
    """All by sample. `about`: donor and tissue of every profile; `tiles`: measures by kind of tiles, `generated` for
    the samples that are evaluated and `real` where there are any; `reference`: what generated tiles ought to measure,
    real tiles or a truth (NaN where a tissue has no such thing); `covariates`: numbers or labels; `programmes`: scores;
    `condition`: what the generator sees of every profile."""

    about: pd.DataFrame
    tiles: dict[str, pd.DataFrame]
    reference: pd.DataFrame
    covariates: pd.DataFrame
    programmes: pd.DataFrame
    condition: pd.DataFrame


def separate(tables: Tables, seed: int = 0, draws: int = 1999) -> dict[str, Any]:
    """By tissue: donors, covariates, notes and lists of `associations`, `partition`, `agreement` and `probe`.

    Associations have `q`, the false discovery rate over all of them, of all tissues (Benjamini & Hochberg 1995).
    """
    result: dict[str, Any] = {}
    evaluated = tables.about.loc[tables.tiles["generated"].index]
    with progress.bar(evaluated["tissue"].nunique(), "tissue", "Statistics") as bar:
        for tissue, rows in evaluated.groupby("tissue"):
            result[str(tissue)] = _of_tissue(tables, str(tissue), rows, seed, draws)
            bar.update()
    tested = [row for report in result.values() for row in report["associations"]]
    if tested:
        for row, q in zip(tested, false_discovery_control([row["p"] for row in tested]), strict=True):
            row["q"] = float(q)
    return result


def _of_tissue(tables: Tables, tissue: str, rows: pd.DataFrame, seed: int, draws: int) -> dict[str, Any]:
    donors = rows["donor"].nunique()
    report: dict[str, Any] = {"donors": donors, "covariates": [], "regressed_out": [], "notes": []}
    report |= {name: [] for name in ("associations", "partition", "agreement", "probe")}
    if donors < FEWEST_DONORS:
        report["notes"].append(f"{tissue} has {donors} donors, and at least {FEWEST_DONORS} are needed: left out.")
        return report
    known = of_donors(tables.covariates, rows, tissue)
    programmes = by_donor(tables.programmes, rows)
    report |= {"covariates": list(known.values), "regressed_out": known.joint, "notes": list(known.notes)}
    if not known.joint:
        report["notes"].append(
            f"{tissue}: no covariate can be regressed out, so what is left of the agreement is unknown."
        )
    for kind, all_measures in tables.tiles.items():
        own = rows.loc[rows.index.intersection(all_measures.index)]
        if own["donor"].nunique() < FEWEST_DONORS:
            report["notes"].append(
                f"{tissue} has {own['donor'].nunique()} donors with {kind} tiles, too few: left out."
            )
            continue
        measures = by_donor(all_measures, own)
        for name, values in [*known.values.items(), *programmes.items()]:
            if why := _untested(values.reindex(measures.index).dropna()):
                report["notes"].append(f"{tissue}: {label(str(name))} {why} with {kind} tiles: left out there.")
        for name in MEASURES:
            if not measures[name].std(ddof=0) > 0:
                report["notes"].append(f"{tissue}: {WORDS[name]} doesn't vary on {kind} tiles: left out.")
                continue
            at = {"tissue": tissue, "tiles": kind, "measure": name}
            tested = _associations(measures[name], known, programmes, seed, draws)
            report["associations"] += [at | row for row in tested]
            report["partition"] += [
                at | row for row in _partition(measures[name], known, programmes, report["notes"], at, seed, draws)
            ]
    report["agreement"] = _agreement(tables, tissue, rows, known, report["notes"], seed, draws)
    report["probe"] = _probe(tables, tissue, rows, known, report["notes"], seed, draws)
    return report


def _associations(
    measured: pd.Series, known: OfTissue, programmes: pd.DataFrame, seed: int, draws: int
) -> list[dict[str, Any]]:
    """Of one measure by donor with each covariate and programme, over the donors that are known for it."""
    found = []
    for what, table in (("covariate", known.values), ("programme", programmes)):
        for name in table:
            values = table[name].reindex(measured.index).dropna()
            y = measured.loc[values.index].to_numpy()
            if _untested(values) or not np.std(y):
                continue
            if pd.api.types.is_numeric_dtype(values):
                r = correlate(values.to_numpy(), y, seed, draws=draws)
                figure, interval, p = "r", Interval(r.r, r.low, r.high), r.p
            else:
                figure = "eta²"
                interval, p = eta_squared(values.to_numpy(), y, seed, draws)
            row = {"with": name, "what": what, "figure": figure, "p": p, "donors": len(y)}
            found.append(row | as_dict(value=interval))
    return found


def _partition(
    measured: pd.Series,
    known: OfTissue,
    programmes: pd.DataFrame,
    notes: list[str],
    at: dict[str, str],
    seed: int,
    draws: int,
) -> list[dict[str, Any]]:
    """What the variance of one measure by donor comes from; nothing, and a note, where donors are too few."""
    complete = known.values[known.joint].reindex(measured.index).dropna()
    scores = programmes.loc[complete.index]
    parts = {"covariates": design(complete), "programmes": design(scores)}
    columns = sum(part.shape[1] for part in parts.values())
    if not all(part.shape[1] for part in parts.values()):
        return []
    if not enough(len(complete), columns):
        notes.append(
            f"{at['tissue']}: what the variance of {WORDS[at['measure']]} on {at['tiles']} tiles comes from is "
            f"unknown: {len(complete)} donors are complete, and {columns} columns of covariates and programmes take "
            f"{2 * (columns + 1)}."
        )
        return []
    shares, how = partition(measured.loc[complete.index].to_numpy(), parts, seed, draws // 2)
    return [
        {"part": part, "how": how, "donors": len(complete)} | as_dict(share=share) for part, share in shares.items()
    ]


def _agreement(
    tables: Tables, tissue: str, rows: pd.DataFrame, known: OfTissue, notes: list[str], seed: int, draws: int
) -> list[dict[str, Any]]:
    """Generated against reference: plain, given all covariates together, and given each."""
    own = rows.loc[rows.index.intersection(tables.reference.index)]
    if own["donor"].nunique() < FEWEST_DONORS:
        notes.append(
            f"{tissue} has {own['donor'].nunique()} donors with real tiles or a truth, too few to say how generated "
            "tiles agree with them."
        )
        return []
    x, y = by_donor(tables.tiles["generated"], own), by_donor(tables.reference, own)
    complete = known.values[known.joint].reindex(x.index).dropna()
    sets = ({ALL: known.joint} if known.joint else {}) | {name: [name] for name in known.joint}
    found: list[dict[str, Any]] = []
    for name in MEASURES:
        if y[name].isna().any():
            notes.append(f"{tissue}: no {WORDS[name]} is expected, so its agreement is unknown.")
            continue
        if not (x.loc[complete.index, name].std(ddof=0) > 0 and y.loc[complete.index, name].std(ddof=0) > 0):
            notes.append(f"{tissue}: {WORDS[name]} doesn't vary, so its agreement is unknown.")
            continue
        for given, columns in sets.items():
            z = design(complete[columns])
            if not z.shape[1]:
                notes.append(f"{tissue}: {label(given)} doesn't vary among the {len(complete)} complete donors.")
                continue
            if not enough(len(complete), z.shape[1]):
                notes.append(
                    f"{tissue}: what is left of {WORDS[name]} given {label(given)} is unknown: {len(complete)} "
                    f"donors are complete, and {z.shape[1]} columns take {2 * (z.shape[1] + 1)}."
                )
                continue
            made, wanted = (table.loc[complete.index, name].to_numpy() for table in (x, y))
            left = beyond(made, wanted, z, seed, draws)
            if left.partial == (0, 0, 0):
                notes.append(f"{tissue}: {label(given)} makes up all of {WORDS[name]}, so nothing is left to agree in.")
            along = left.along if left.r.low > 0 else Interval(np.nan, np.nan, np.nan)
            row = {"tissue": tissue, "measure": name, "given": given, "p": left.p, "donors": len(complete)}
            found.append(row | as_dict(r=left.r, partial=left.partial, along=along))
    return found


def _probe(
    tables: Tables, tissue: str, rows: pd.DataFrame, known: OfTissue, notes: list[str], seed: int, draws: int
) -> list[dict[str, Any]]:
    """How well the condition predicts each covariate: learnt from all donors of the tissue, scored on `rows`."""
    everyone = tables.about[tables.about["tissue"] == tissue]
    everyone = everyone.loc[everyone.index.intersection(tables.condition.index)]
    c = by_donor(tables.condition, everyone)
    of_all = of_donors(tables.covariates[list(known.values)], everyone, tissue).values
    found = []
    for name in known.values:
        values = of_all[name].reindex(c.index).dropna() if name in of_all else pd.Series(dtype=float)
        scored = values.index.isin(rows["donor"])
        scores = (
            linear_probe(c.loc[values.index].to_numpy(), values.to_numpy(), scored, seed, draws)
            if len(values)
            else None
        )
        if scores is None:
            notes.append(f"{tissue}: too few donors to say how well RNA predicts {label(name)}.")
            continue
        found.append({"tissue": tissue, "covariate": name} | scores)
    return found


def _untested(values: pd.Series) -> str:
    """Why an association with these values, one a donor, can't be tested; empty where it can."""
    kinds = values.nunique()
    if len(values) < FEWEST_DONORS:
        return f"is known for {len(values)} donors"
    if kinds < 2:
        return f"doesn't vary among the {len(values)} donors"
    numeric = pd.api.types.is_numeric_dtype(values)
    return "" if numeric or kinds < len(values) else f"is another for each of the {len(values)} donors"
