"""Results on covariates and programmes: in sentences, as a long table, as a heat map and as a page."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnagan.reports.figures import save_figure
from rnagan.reports.labels import ALL, WORDS, label
from rnagan.reports.pages import embedded, write_template

FALSE_DISCOVERY_RATE = 0.05
KINDS = ("real", "generated")
_NAMED = 4  # associations in a sentence, at most
_PARTS = ("covariates", "programmes", "both", "covariates only", "programmes only", "shared")


def sentences(tissues: dict[str, Any], reference: str) -> dict[str, str]:
    """One sentence of conclusion for each tissue, of its figures alone. `reference`: what tiles are compared with."""
    return {tissue: _sentence(tissue, result, reference) for tissue, result in tissues.items()}


def scores(tissues: dict[str, Any]) -> list[dict[str, Any]]:
    """The main figures as name, value, low, high: agreement plain and given all covariates, shares of variance, and
    how well RNA predicts each covariate."""
    found = []
    for tissue, result in tissues.items():
        for row in result["agreement"]:
            if row["given"] == ALL:
                head = f"{tissue}/{row['measure']}"
                found += [_score(f"{head}/r", row, "r"), _score(f"{head}/r given {ALL}", row, "partial")]
                found.append(_score(f"{head}/share of agreement along covariates", row, "along"))
        for row in result["partition"]:
            found.append(_score(f"{tissue}/{row['measure']}/{row['tiles']}/variance of {row['part']}", row, "share"))
        found += [_score(f"{tissue}/RNA tells {row['covariate']}", row, "score") for row in result["probe"]]
    return found


def long_form(tissues: dict[str, Any]) -> pd.DataFrame:
    """One row a figure: section, tissue, tiles, measure, with, figure, value, low, high, p, q, donors."""
    columns = ["section", "tissue", "tiles", "measure", "with", "figure", "value", "low", "high", "p", "q", "donors"]
    rows: list[dict[str, Any]] = []
    for result in tissues.values():
        for row in result["associations"]:
            rows.append(row | _interval(row, "value") | {"section": f"association with {row['what']}"})
        for row in result["partition"]:
            rows.append(
                row | _interval(row, "share") | {"section": "variance", "with": row["part"], "figure": row["how"]}
            )
        for row in result["agreement"]:
            at = row | {"section": "agreement", "tiles": "generated and reference", "with": row["given"]}
            for figure in ("r", "partial", "along"):
                own = at | _interval(row, figure) | {"figure": figure}
                rows.append(own | ({} if figure == "partial" else {"p": None}))
        for row in result["probe"]:
            rows.append(
                row
                | _interval(row, "score")
                | {"section": "RNA tells", "with": row["covariate"], "figure": row["what"]}
            )
    return pd.DataFrame(rows, columns=columns)


def write_confounder_page(path: Path, result: dict[str, Any], picture: Path) -> None:
    """The self-contained page of what `confounder_report` found."""
    lead = (
        f"Model {result['model'][:12]}, {result['profiles']:,} profiles of split {result['split']}, "
        f"{result['tiles_per_profile']} generated tiles each, beside {result['reference']}."
    )
    caption = (
        "Within each tissue, over donors: share of a measure's variance that goes along with each covariate and "
        "programme (colour), as signed r or, of labels, η² less chance. Bold: false discovery rate below 5%."
    )
    write_template(
        path,
        "confounders.html",
        title="What did the model learn beside morphology?",
        lead=lead,
        found=result,
        label=label,
        labels=WORDS,
        parts=_PARTS,
        variance={tissue: _variance(own["partition"]) for tissue, own in result["tissues"].items()},
        charts=embedded([(picture, caption)]),
    )


def _variance(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each measure and kind of tiles, with the shares of all parts."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        at = found.setdefault(
            (row["measure"], row["tiles"]), {name: row[name] for name in ("measure", "tiles", "how", "donors")}
        )
        at[row["part"]] = row
    return list(found.values())


def _score(name: str, row: dict[str, Any], key: str) -> dict[str, Any]:
    return {"name": name} | _interval(row, key)


def _interval(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {"value": row[key], "low": row[f"{key}_low"], "high": row[f"{key}_high"]}


def _sentence(tissue: str, result: dict[str, Any], reference: str) -> str:
    found = [*_along(result), *_associated(result), *_probe(result)]
    said = [*_agreement(result, reference), *found]
    if not (found or result["agreement"]):
        return f"{tissue}: too little is known of its {result['donors']} donors to conclude anything."
    return f"{tissue}, {result['donors']} donors: {'; '.join(said)}; all of it is association, not cause."


def _agreement(result: dict[str, Any], reference: str) -> list[str]:
    rows = [row for row in result["agreement"] if row["given"] == ALL]
    if not rows:
        return [f"whether generated tiles agree with {reference} beyond the covariates can't be said"]
    given = _listed([label(name) for name in result["regressed_out"]])
    kept, lost, none = [], [], []
    for row in rows:
        name = WORDS[row["measure"]]
        if not (row["r_low"] or 0) > 0:
            none.append(name)
        elif (row["partial_low"] or 0) > 0:
            kept.append(f"{name} (r {row['r']:.2f}, {row['partial']:.2f} given them)")
        else:
            lost.append(f"{name} (r {row['r']:.2f}, {row['partial']:.2f} given them)")
    said = []
    over = f"over {rows[0]['donors']} donors with both"
    if kept:
        said.append(f"{over}, generated tiles agree with {reference} beyond {given} in {_listed(kept)}")
    if lost:
        said.append(f"{over}, agreement with {reference} in {_listed(lost)} isn't shown any more given {given}")
    if none:
        said.append(f"no agreement is shown in {_listed(none)}")
    return said


def _along(result: dict[str, Any]) -> list[str]:
    """Agreement that runs along the covariates, and along which of them most."""
    said = []
    for row in result["agreement"]:
        if row["given"] == ALL and (row["along_low"] or 0) > 0:
            single = [r for r in result["agreement"] if r["measure"] == row["measure"] and r["given"] != ALL]
            most = max(single, key=lambda r: r["along"] or 0)["given"]
            share = f"{row['along']:.0%} ({row['along_low']:.0%} to {row['along_high']:.0%})"
            beside = f", most with {label(most)}" if len(single) > 1 else ""
            said.append(f"{share} of the agreement in {WORDS[row['measure']]} goes along with the covariates{beside}")
    return said


def _associated(result: dict[str, Any]) -> list[str]:
    """The strongest associations of generated tiles with covariates, beside those of real ones."""
    own = [row for row in result["associations"] if row["what"] == "covariate"]
    real = {(row["measure"], row["with"]): row for row in own if row["tiles"] == "real"}
    made = [row for row in own if row["tiles"] == "generated"]
    found = [row for row in made if row["q"] < FALSE_DISCOVERY_RATE]
    if not made:
        return []
    if not found:
        tested = _listed(list(dict.fromkeys(label(row["with"]) for row in made)), "or")
        return [f"no measure of generated tiles is shown to go along with {tested}"]
    found.sort(key=lambda row: -(row["value"] ** 2 if row["figure"] == "r" else row["value"]))
    said = []
    for row in found[:_NAMED]:
        beside = real.get((row["measure"], row["with"]))
        of_real = "" if beside is None else f"; on real tiles {beside['value']:+.2f}"
        said.append(f"{WORDS[row['measure']]} with {label(row['with'])} ({row['figure']} {row['value']:+.2f}{of_real})")
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return [f"on generated tiles {_listed(said)}{more} go together"]


def _probe(result: dict[str, Any]) -> list[str]:
    knows, not_known = [], []
    for row in result["probe"]:
        name = label(row["covariate"])
        if row["score_low"] is not None and row["score_low"] > row["chance"]:
            knows.append(f"{name} ({row['what']} {row['score']:.2f}, chance {row['chance']:.2g})")
        else:
            not_known.append(name)
    said = [f"RNA tells {_listed(knows)}"] if knows else []
    return said + ([f"that RNA tells {_listed(not_known, 'or')} isn't shown"] if not_known else [])


def _listed(names: list[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def heat_map(path: Path, tissues: dict[str, Any]) -> None:
    """A row of two panels for each tissue of what `confounders.separate` found: real tiles, then generated ones.

    Colour is the share of variance, r² or η² less chance; the number is signed r, or η²; bold where the false discovery
    rate is below FALSE_DISCOVERY_RATE. A cell that couldn't be tested is grey.
    """
    shown = {tissue: result["associations"] for tissue, result in tissues.items() if result["associations"]}
    if not shown:
        return
    names = list(dict.fromkeys((row["what"], row["with"]) for rows in shown.values() for row in rows))
    names.sort(key=lambda name: name[0])  # covariates, then programmes
    size = (2.2 + 2 * 0.62 * len(names), 1.1 + 2.1 * len(shown))
    figure, axes = plt.subplots(len(shown), 2, figsize=size, squeeze=False, layout="constrained")
    for line, (tissue, rows) in zip(axes, shown.items(), strict=True):
        for axis, kind in zip(line, KINDS, strict=True):
            image = _panel(axis, [row for row in rows if row["tiles"] == kind], names)
            axis.set_title(f"{tissue}, {kind} tiles", fontsize=9)
            axis.set_yticks(
                range(len(WORDS)),
                WORDS.values() if axis is line[0] else [""] * len(WORDS),
                fontsize=8,
            )
    figure.colorbar(image, ax=axes, label="share of variance", shrink=0.7, pad=0.01)
    save_figure(figure, path)


def _panel(axis: Axes, rows: list[dict[str, Any]], names: list[tuple[str, str]]) -> Any:
    share = np.full((len(WORDS), len(names)), np.nan)
    for row in rows:
        at = list(WORDS).index(row["measure"]), names.index((row["what"], row["with"]))
        share[at] = row["value"] ** 2 if row["figure"] == "r" else max(row["value"], 0)
        text = f"{row['value']:+.2f}" if row["figure"] == "r" else f"η² {max(row['value'], 0):.2f}"
        weight = "bold" if row["q"] < FALSE_DISCOVERY_RATE else "normal"
        colour = "white" if share[at] > 0.55 else "black"
        axis.text(at[1], at[0], text, ha="center", va="center", fontsize=7, weight=weight, color=colour)
    axis.set_facecolor("0.85")
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(names)), [label(name) for _, name in names], rotation=45, ha="right", fontsize=8)
    covariates = sum(what == "covariate" for what, _ in names)
    axis.axvline(covariates - 0.5, color="black", lw=1.2)
    return image
