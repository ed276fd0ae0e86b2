"""An evaluation as a few lines on a terminal."""

from typing import Any

from rnagan.reports.labels import network_label
from rnagan.reports.pages import measure_rows, retrieval_rows


def lines(result: dict[str, Any]) -> list[str]:
    """Tissue, measures and retrieval of what `evaluate` returned, as aligned tables."""
    real = result["tissue_accuracy_real"]
    of_real = "none were there" if real is None else f"{real:.1%}"
    said = [f"Tissue called right on {result['tissue_accuracy']:.1%} of generated tiles; of real ones: {of_real}."]
    said += result["notes"]
    rows = measure_rows(result)
    if rows:
        against = "the truth" if "faithfulness" in result else "the donors' own real tiles"
        said += ["", f"Generated tiles against {against}, over donors within a tissue:"]
        said += aligned([_measure(row, result) for row in rows])
    found = retrieval_rows(result)
    if found:
        said += ["", "Is the right donor found? Place among donors: 0 nearest, 0.5 chance, 1 farthest."]
        said += aligned([_retrieval(row) for row in found])
    pairs = result.get("real_pairs", {}).get("sections", {})
    for section, scores in pairs.items():
        said += ["", *_section(section, scores)]
    return said


def _section(section: str, scores: dict[str, Any]) -> list[str]:
    """Figures of one section's spots; r of the baselines is that of the same measure."""
    place = scores["place"]
    tried = f"{scores['turns']} turned and mirrored maps and {scores['shifts']:,} shifts"
    rows = [
        {
            "measure": name,
            "r (95%, blocks)": f"{own['r']:+.2f} ({own['low']:+.2f} to {own['high']:+.2f})",
            "slope": f"{own['slope']:+.2f}",
            "ridge": f"{own['ridge']['r']:+.2f}",
            "over ridge": _signed(own["over_ridge"]),
            "nulls beaten": f"{own['beaten']} of {own['nulls']}",
            "p": f"{own['p']:.4f}",
            "nearest spot": f"{own['nearest_spot']:+.2f}",
            "nearest in expression": f"{own['nearest_expression']:+.2f}",
        }
        | ({"next section": f"{own['next_section']:+.2f}"} if "next_section" in own else {})
        for name, own in scores["measures"].items()
    ]
    return [
        f"{section}, {scores['spots']} spots: generated tiles against the spot's own real tile; nulls are {tried}.",
        *aligned(rows),
        f"Place of the own tile (0 nearest, 0.5 chance): {place['generated']['value']:.3f} "
        f"({place['generated']['low']:.3f} to {place['generated']['high']:.3f}); of the ridge "
        f"{place['ridge']['value']:.3f}, of the tile nearest in expression {place['nearest_expression']['value']:.3f}.",
        *(
            f"{cells}: generated tiles against the proportion by deconvolution r {own['r']:+.2f} ({own['low']:+.2f} to "
            f"{own['high']:+.2f}), p {own['p']:.4f}; real tiles {own['real']:+.2f}."
            for cells, own in scores.get("proportions", {}).items()
        ),
    ]


def score_lines(result: dict[str, Any]) -> list[str]:
    """Scores of what `compute_fid` returned, then their floor, and warnings of few tiles and flattering scores."""
    said = aligned([_score(score) for score in result["scores"]])
    floor = result["floor"]
    if floor is not None:
        said += [
            "",
            f"Fréchet distance between halves of the donors, {floor['tiles']:,} tiles each: real and real tiles "
            f"{floor['floor']:.2f}, generated and real ones {floor['matched']:.2f}.",
        ]
    if result.get("claim"):
        said += ["", result["claim"]]
    if result.get("few_tiles"):
        said += ["", result["few_tiles"]]
    if any(score.get("in_training") for score in result["scores"]):
        said += ["", "The critic had this extractor's network in training: its scores flatter the model. Take another."]
    return said


def _score(score: dict[str, Any]) -> dict[str, str]:
    around = "" if score.get("low") is None else f"{score['low']:.4g} to {score['high']:.4g}"
    sd = "" if "sd" not in score else f"{score['sd']:.2g}"
    return {
        "score": score["name"],
        "of": score["part"],
        "value": f"{score['value']:.4g}",
        "95% over donors": around,
        "SD": sd,
        "network": network_label(score.get("in_training")),
    }


def _measure(row: dict[str, Any], result: dict[str, Any]) -> dict[str, str]:
    beside = {"null r": "null_r"} if "null" in result else {}
    beside |= {"train r": "train_r"} if "train" in result else {}
    beside |= {"left out r": "left_out_r", "its slope": "left_out_slope"} if "left_out" in result else {}
    if "calibrated" in result:
        beside |= {"calibrated r": "calibrated_r", "calibrated slope": "calibrated_slope"}
    return {
        "tissue": row["tissue"],
        "measure": row["measure"],
        "r (95%)": f"{row['r']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})",
        "slope": f"{row['slope']:+.2f}",
        "ceiling": _signed(row["ceiling"]),
        "p": f"{row['p']:.4f}",
        "donors": str(row["donors"]),
    } | {title: _signed(row[name]) for title, name in beside.items()}


def _retrieval(row: dict[str, Any]) -> dict[str, str]:
    return {
        "tissue": row["tissue"],
        "tiles": row["tiles"],
        "among": row["among"],
        "place (95%)": f"{row['rank']:.3f} ({row['rank_low']:.3f} to {row['rank_high']:.3f})",
        "first (chance)": f"{row['top1']:.1%} ({row['chance1']:.1%})",
        "first five": f"{row['top5']:.1%} ({row['chance5']:.1%})",
        "p": f"{row['p']:.4f}",
        "donors": str(row["donors"]),
    }


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def aligned(rows: list[dict[str, str]]) -> list[str]:
    """Rows of the same columns as lines, under their names."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    head = {name: name for name in rows[0]}
    return ["  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in (head, *rows)]
