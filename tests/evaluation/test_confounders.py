"""Planted covariates are found and separated from morphology; where none is planted, none is found."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rnagan.evaluation.confounders import Tables, separate
from rnagan.evaluation.morphology import MEASURES
from rnagan.reports.confounder_page import long_form, scores, sentences
from rnagan.reports.labels import ALL

DONORS = 120


def planted(effect: float, donors: int = DONORS, seed: int = 0, tissues: tuple[str, ...] = ("lung",)) -> Tables:
    """Real matrix colour = programme − effect · ischaemic time, in the RNA both; the generated one follows it. Nuclear
    density follows another programme; the site's stain is of the real tiles alone."""
    draw, frames = np.random.default_rng(seed), []
    for tissue in tissues:
        samples = [f"{tissue}-{k}" for k in range(donors)]
        p, q, t, *noise = draw.standard_normal((8, donors))
        site = draw.integers(0, 3, donors)
        real = {
            "nuclear_density": q,
            "air_fraction": noise[0],
            "matrix_colour": p - effect * t,
            "site_stain": 1.0 * site,
        }
        made = {
            "nuclear_density": q + 0.5 * noise[1],
            "air_fraction": noise[2],
            "matrix_colour": p - effect * t + 0.3 * noise[3],
            "site_stain": noise[4],
        }
        rna = {"unit 1": p, "unit 2": q, "unit 3": t if effect else draw.standard_normal(donors)}
        about = {"donor": samples, "tissue": tissue, "age": draw.integers(20, 80, donors).astype(float)}
        about |= {"site": [f"c{k}" for k in site], "ischaemic_min": t, "sex": draw.choice(["female", "male"], donors)}
        tables = {"about": about, "real": real, "made": made, "rna": rna}
        frames.append({name: pd.DataFrame(table, samples) for name, table in tables.items()})
    about, real, made, rna = (pd.concat([frame[name] for frame in frames]) for name in ("about", "real", "made", "rna"))
    covariates = about[["site", "ischaemic_min", "age", "sex"]]
    return Tables(about, {"generated": made, "real": real}, real, covariates, rna[["unit 1", "unit 2"]], rna)


def row_of(rows: list[dict], **wanted: str) -> dict:
    (found,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return found


@pytest.fixture(scope="module")
def confounded() -> dict:
    return separate(planted(1.0), draws=399)


@pytest.fixture(scope="module")
def unconfounded() -> dict:
    return separate(planted(0.0), draws=399)


def test_a_planted_confounder_is_found_and_its_part_is_measured(confounded: dict) -> None:
    report = confounded["lung"]
    for tiles in ("real", "generated"):
        found = row_of(report["associations"], tiles=tiles, measure="matrix_colour", **{"with": "ischaemic_min"})
        assert found["value_high"] < -0.4 and found["q"] < 0.05 and found["figure"] == "r"
        shares = {
            row["part"]: row
            for row in report["partition"]
            if row["measure"] == "matrix_colour" and row["tiles"] == tiles
        }
        assert shares["covariates only"]["share_low"] > 0.25 and shares["programmes only"]["share_low"] > 0.25
        assert shares["both"]["share"] > 0.85 and shares["both"]["how"] == "left out"
    colour = row_of(report["agreement"], measure="matrix_colour", given=ALL)
    assert colour["along_low"] > 0.3 and colour["along_high"] < 0.7 and colour["partial_low"] > 0.8
    single = {row["given"]: row["along"] for row in report["agreement"] if row["measure"] == "matrix_colour"}
    assert single["ischaemic_min"] > 0.35 and max(single["age"], single["sex"], single["site"]) < 0.15
    knows = {row["covariate"]: row for row in report["probe"]}
    assert knows["ischaemic_min"]["score_low"] > 0.9
    assert all(knows[name]["score_low"] <= knows[name]["chance"] for name in ("age", "sex", "site"))
    sentence = sentences(confounded, "real tiles")["lung"]
    assert "most with ischaemic time" in sentence and "RNA tells ischaemic time" in sentence
    assert "association, not cause" in sentence and sentence.count("\n") == 0


def test_where_none_is_planted_none_is_found(unconfounded: dict) -> None:
    report = unconfounded["lung"]
    made = [r for r in report["associations"] if r["tiles"] == "generated" and r["what"] == "covariate"]
    assert len(made) == 4 * len(MEASURES) and all(row["q"] > 0.05 for row in made)
    colour = row_of(report["agreement"], measure="matrix_colour", given=ALL)
    assert colour["along_low"] <= 0 < 0.9 < colour["partial_low"]
    assert row_of(report["agreement"], measure="air_fraction", given=ALL)["along"] is None
    assert all(row["score_low"] <= row["chance"] for row in report["probe"])
    stain = row_of(report["associations"], tiles="real", measure="site_stain", **{"with": "site"})
    assert stain["figure"] == "eta²" and stain["value_low"] > 0.9 and stain["q"] < 0.05
    assert (
        "no measure of generated tiles is shown to go along with centre, ischaemic time, age or sex"
        in sentences(unconfounded, "real tiles")["lung"]
    )


def test_q_is_over_the_tests_of_all_tissues() -> None:
    report = separate(planted(1.0, 40, tissues=("lung", "cortex")), draws=99)
    rows = [row for tissue in report.values() for row in tissue["associations"]]
    p = np.array([row["p"] for row in rows])
    order = np.argsort(p)
    step_up = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1].clip(max=1)
    assert {row["tissue"] for row in rows} == {"lung", "cortex"}
    assert [rows[k]["q"] for k in order] == pytest.approx(step_up)


def test_tissues_are_never_pooled() -> None:
    """Tissues that differ in age and colour, with no relation within: over all there is one, in each there is none."""
    tables = planted(0.0, 60, tissues=("cortex", "lung"))
    lung = (tables.about["tissue"] == "lung").to_numpy()
    tables.tiles["generated"].loc[lung, "matrix_colour"] += 6
    tables.covariates.loc[lung, "age"] += 200
    pooled = np.corrcoef(tables.tiles["generated"]["matrix_colour"], tables.covariates["age"])[0, 1]
    assert pooled > 0.8
    for report in separate(tables, draws=199).values():
        found = row_of(report["associations"], tiles="generated", measure="matrix_colour", **{"with": "age"})
        assert abs(found["value"]) < 0.3 and found["value_low"] < 0 < found["value_high"]


def test_what_cant_be_said_is_said() -> None:
    tables = planted(1.0, 9)
    tables.covariates.loc[:, "site"] = "c1"
    tables.tiles["generated"]["air_fraction"] = 0.0
    report = separate(tables, draws=99)["lung"]
    said = " ".join(report["notes"])
    assert "lung: all 9 donors have the same centre (c1), so nothing can be said of it." in said
    assert "air fraction doesn't vary on generated tiles" in said and "its agreement is unknown" in said
    assert "what the variance of matrix colour on real tiles comes from is unknown: 9 donors are complete" in said
    assert "too few donors to say how well RNA predicts sex" in said
    assert report["partition"] == [] and len(report["agreement"]) > 0
    alone = separate(planted(1.0, 2), draws=99)
    assert alone["lung"]["notes"] == ["lung has 2 donors, and at least 3 are needed: left out."]
    assert sentences(alone, "real tiles")["lung"].startswith("lung: too little is known of its 2 donors")


def test_unknown_values_leave_out_their_donors_alone() -> None:
    tables = planted(1.0)
    tables.covariates.loc[tables.covariates.index[:15], "age"] = np.nan
    report = separate(tables, draws=99)["lung"]
    counts = {row["with"]: row["donors"] for row in report["associations"]}
    assert counts["age"] == DONORS - 15 and counts["sex"] == DONORS
    assert {row["donors"] for row in report["agreement"]} == {DONORS - 15}


def test_scores_and_the_long_table_hold_every_figure(confounded: dict) -> None:
    report = confounded["lung"]
    table = long_form(confounded)
    lengths = [len(report[name]) for name in ("associations", "partition", "agreement", "probe")]
    assert len(table) == lengths[0] + lengths[1] + 3 * lengths[2] + lengths[3]
    assert table["value"].notna().sum() >= len(table) - 10
    listed = {row["name"]: row for row in scores(confounded)}
    own = row_of(report["agreement"], measure="matrix_colour", given=ALL)
    assert listed["lung/matrix_colour/r given all covariates"]["value"] == own["partial"]
    assert set(next(iter(listed.values()))) == {"name", "value", "low", "high"} and len(listed) == len(
        scores(confounded)
    )


def test_a_covariate_that_only_donors_without_real_tiles_vary_in_is_named() -> None:
    tables = planted(0.0, 40)
    tables.covariates.loc[:, "site"] = ["c1"] * 20 + ["c2"] * 20
    tables.covariates.loc[tables.covariates.index[:20], "sex"] = ["female", "male"] + [None] * 18
    tables.tiles["real"] = tables.tiles["real"].iloc[:20]
    report = separate(dataclasses.replace(tables, reference=tables.tiles["real"]), draws=99)["lung"]
    said = " ".join(report["notes"])
    assert "lung: centre doesn't vary among the 20 donors with real tiles: left out there." in said
    assert "lung: sex is known for 2 donors with real tiles: left out there." in said
    assert "lung: what is left of matrix colour given all covariates is unknown: 2 donors are complete" in said
    tested = {(row["tiles"], row["with"]) for row in report["associations"]}
    assert ("generated", "site") in tested and ("real", "site") not in tested
