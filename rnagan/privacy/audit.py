"""The privacy audit of a model: copies, who was trained on, whose profile was, and what tiles tell of people."""

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.cohort.leakage import are_of_seen
from rnagan.evaluation.covariates import of_donors, read_covariates
from rnagan.evaluation.features import FeatureExtractor, comparable, make_extractor, took_part, witness_of
from rnagan.evaluation.memorization import nearest_of_set
from rnagan.evaluation.probe import linear_probe
from rnagan.evaluation.real_tiles import tiles_of_slides
from rnagan.evaluation.stats import Values
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet, open_evaluation_set
from rnagan.io.cells import safe_table
from rnagan.io.claim import stating, with_claim
from rnagan.io.files import write_json, write_text
from rnagan.privacy.attacks import critic_scores, density_ratio, nearest_generated
from rnagan.privacy.membership import FALSE_POSITIVES, at_risk, membership
from rnagan.reports.pages import write_template
from rnagan.runtime import progress, rng
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

SPLITS = ("train", "test", "left_out")  # the validation split chose the model
RESULT, PAGE, AT_RISK = "privacy.json", "privacy.html", "at_risk.csv"
COMPONENTS = 20  # of features, in which tiles are compared and from which attributes are read
FEW_UNITS = 10  # members or others; fewer, and an interval says little
ATTACKS = {
    "nearest": "tiles: how near the nearest generated tile comes",
    "density": "tiles: density under the model over that under a reference",
    "critic": "tiles: the critic's score",
    "profile": "profiles: how well the β-VAE reconstructs them",
}
UNITS = {"donor": "donors", "slide": "sections", "image_donor": "image donors", "sample": "samples"}


@dataclasses.dataclass(frozen=True)
class Asked:
    """`donors`: units of each kind at most; `tiles`: of each, real and generated; `reference`: a model that was trained
    without some of the members, or None; `covariates`: attributes, those of `covariates.DEFAULT` where it is empty;
    `copies`: generated tiles that are tested for copies; `draws`: resamples."""

    donors: int = 200
    tiles: int = 8
    reference: Path | None = None
    covariates: tuple[str, ...] = ()
    copies: int = 400
    draws: int = 999
    seed: int = 0


class Candidates(NamedTuple):
    """Who may have been trained on. `rows`: sample, slide, donor, tissue, tiles, `unit` and `member`, one a slide (and
    profile, where tiles have their own); the real tiles (n, H, W, 3) uint8 of all rows, and the `row` (n,) of each;
    `points`: leading components (n, k) of the features of `real` tiles, of as many `generated` from the same profiles
    and, where there is one, of the `reference`."""

    rows: pd.DataFrame
    real: NDArray[np.uint8]
    row: NDArray[np.intp]
    points: dict[str, Values]

    def of_tiles(self, column: str) -> NDArray:
        """A column of `rows`, of each tile."""
        return self.rows[column].to_numpy()[self.row]


def audit_privacy(inputs: EvaluationInputs, asked: Asked, out: Path, device: str | torch.device = AUTO) -> list[str]:
    """Attack a model with real tiles and profiles of people of the training split and of others; writes
    `out/privacy.json`, `privacy.html` and `at_risk.csv`, which names members who stand out, for the owner of the data
    alone. Returns lines for the terminal.

    Others are those of the splits `test` and `left_out`: the validation split chose the model. The unit is the donor;
    where splits aren't by donor, the section or sample that was held out; where images are of other people than the
    profiles, the image donor. Raises `ValueError` where there are no members or no others with tiles.
    """
    start = time.perf_counter()
    held_out = open_evaluation_set(inputs, "test", need="profiles", device=device)
    if held_out.rows.empty:  # copies are looked for beside them
        raise ValueError("No slide of split test has tiles of a tissue that the models know, and a profile.")
    extractor = make_extractor(witness_of(held_out.model.config.backbone), device=held_out.model.device)
    reference = None if asked.reference is None else RNAGAN.from_pretrained(asked.reference, device)
    unit = _unit(held_out)
    rows = _candidates(held_out, unit, reference, asked)
    candidates = _with_tiles(held_out, rows, extractor, reference, asked.seed)
    tested, scores = _membership(held_out, candidates, asked)
    notes = list(held_out.caveats)
    if min(tested["nearest"]["members"], tested["nearest"]["others"]) < FEW_UNITS:
        notes.append(f"Fewer than {FEW_UNITS} {UNITS[unit]} are members, or others: the intervals say little.")
    if "critic" not in tested:
        notes.append("The run's folder holds no critic (checkpoint), so it was not asked.")
    if reference is None:
        notes.append("No --reference was given: the density of tiles was not compared with another model's.")
    copies = nearest_of_set(held_out, out / "copies", asked.copies, seed=asked.seed, extractor=extractor)
    risky = _at_risk(scores)
    result = {
        "model": held_out.model.digest,
        "unit": unit,
        "split_by": held_out.split_by,
        "tiles_per_unit": asked.tiles,
        "seed": asked.seed,
        "extractor": extractor.name,
        "extractor_in_training": took_part(extractor.name, held_out.model.config.backbone),
        "reference": None if reference is None else reference.digest,
        "membership": tested,
        "copies": {name: copies[name] for name in ("share", "expected", "generated", "training_tiles")}
        | {"found": len(copies["copies"])},
        "attributes": _attributes(held_out, candidates, asked),
        "at_risk": len(risky),
        "notes": notes,
        "seconds": round(time.perf_counter() - start, 1),
    } | ({} if held_out.claim is None else held_out.claim.as_json())
    with stating(held_out.claim):
        table = with_claim(pd.DataFrame(risky, columns=[unit, "attacks"]))
        write_text(out / AT_RISK, safe_table(table).to_csv(index=False))
        values = {
            "found": result,
            "attacks": ATTACKS,
            "units": UNITS[unit],
            "false_positives": FALSE_POSITIVES,
        }
        write_template(out / PAGE, "privacy.html", **values)
    write_json(out / RESULT, result)
    settings = dataclasses.asdict(asked) | {"reference": result["reference"], "extractor": extractor.name}
    record_evaluation(
        out, "privacy", inputs.model, _flat(result), inputs.protocol(**settings), out / PAGE, claim=held_out.claim
    )
    return _lines(result, out, unit)


def _unit(held_out: EvaluationSet) -> str:
    """The column of the cohort table whose values were dealt to the splits."""
    if not held_out.own_people:
        return "image_donor"
    return {"section": "slide", "block": "sample", "sample": "sample"}.get(held_out.split_by, "donor")


def _candidates(held_out: EvaluationSet, unit: str, reference: RNAGAN | None, asked: Asked) -> pd.DataFrame:
    """Rows of members and of others, as many units of each as can be up to `donors`, with `tiles` tiles a unit."""
    known = held_out.pictured[held_out.pictured["tissue"].isin(held_out.model.tissues)]
    known = known[known["split"].isin(SPLITS)]
    if reference is not None:
        known = known[~are_of_seen(known, reference.train_donors)]
        if not (known["split"] == "train").any():
            raise ValueError(
                f"{asked.reference} was trained on everybody whom {held_out.inputs.model} was trained on; give a model "
                "that was trained without some of them."
            )
    known = known.assign(unit=known[unit], member=known["split"] == "train")
    random, chosen = rng.generator(asked.seed, "privacy/units"), []
    for member, name in ((True, "the training split"), (False, "split test or left_out")):
        names = np.array(sorted(set(known.loc[known["member"] == member, "unit"])), dtype=object)
        if not len(names):
            raise ValueError(f"Nobody of {name} has tiles and a profile of a tissue that the model knows.")
        own = known[known["unit"].isin(random.permutation(names)[: asked.donors])]
        chosen.append(own.groupby("unit", group_keys=False).head(asked.tiles))
    rows = pd.concat(chosen).reset_index(drop=True)
    each = -(-asked.tiles // rows.groupby("unit")["unit"].transform("size"))
    return rows.assign(tiles=rows["tiles"].clip(upper=each))


def _with_tiles(
    held_out: EvaluationSet, rows: pd.DataFrame, extractor: FeatureExtractor, reference: RNAGAN | None, seed: int
) -> Candidates:
    real = np.concatenate(list(tiles_of_slides(held_out.shards, rows, held_out.resolution)))
    models = {"generated": held_out.model} | ({} if reference is None else {"reference": reference})
    features = {"real": extractor(real)}
    features |= {name: extractor(_generated(held_out, model, rows, seed)) for name, model in models.items()}
    scaled = {name: comparable(extractor, own, features["real"]).astype(np.float64) for name, own in features.items()}
    mean = scaled["real"].mean(axis=0)
    axes = np.linalg.svd(scaled["real"] - mean, full_matrices=False)[2][:COMPONENTS].T
    points = {name: (own - mean) @ axes for name, own in scaled.items()}
    return Candidates(rows, real, np.repeat(np.arange(len(rows)), rows["tiles"]), points)


def _generated(held_out: EvaluationSet, model: RNAGAN, rows: pd.DataFrame, seed: int) -> NDArray[np.uint8]:
    """Tiles of the rows' own profiles, as many as each has real ones."""
    counts = rows["tiles"].tolist()
    names = [f"privacy/{slide}/{sample}" for slide, sample in zip(rows["slide"], rows["sample"], strict=True)]
    parts = []
    with progress.bar(sum(counts), "tile", "Generating") as bar:
        for own in model.generate_each(held_out.latents(model, rows["sample"]), names, counts, seed):
            parts.append(own)
            bar.update(len(own))
    return np.concatenate(parts)


def _membership(
    held_out: EvaluationSet, candidates: Candidates, asked: Asked
) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[Values, NDArray, NDArray]]]:
    """By attack: its figures, and its scores with who is a member and the unit of each."""
    rows, model = candidates.rows, held_out.model
    tissue, units, member = (candidates.of_tiles(name) for name in ("tissue", "unit", "member"))
    points = candidates.points
    scores = {"nearest": (nearest_generated(points["real"], points["generated"], tissue, units), member, units)}
    if "reference" in points:
        scores["density"] = (
            density_ratio(points["real"], points["generated"], points["reference"], tissue),
            member,
            units,
        )
    latents = held_out.latents(model, rows["sample"])
    c = model.whole_conditions(latents)
    c = None if c is None else c.cpu()[candidates.row]
    of_critic = critic_scores(Path(held_out.inputs.model), model, candidates.real, c)
    if of_critic is not None:
        scores["critic"] = of_critic, member, units
    if model.vae is not None:
        scores["profile"] = _profile_scores(held_out, model, asked)
    tested = {name: membership(*own, asked.seed, asked.draws)._asdict() for name, own in scores.items()}
    return tested, scores


def _profile_scores(held_out: EvaluationSet, model: RNAGAN, asked: Asked) -> tuple[Values, NDArray, NDArray]:
    """How little the encoder misses of each profile of the training split and of others, and their donors."""
    about, expression = held_out.about, held_out.expression
    assert expression is not None and model.vae is not None
    known = np.flatnonzero(about["split"].isin(SPLITS) & about["tissue"].isin(model.tissues))
    most = 10 * asked.donors
    chosen = np.sort(rng.generator(asked.seed, "privacy/profiles").permutation(known)[:most])
    residual = model.vae.encode(expression.values[chosen], expression.genes, expression.units).residual
    own = about.iloc[chosen]
    if held_out.split_by == "section":  # spots of a section are no independent witnesses
        units = held_out.cohort.drop_duplicates("sample").set_index("sample")["slide"].reindex(own.index)
    else:
        units = own.index if held_out.split_by in ("sample", "block") else own["donor"]
    return -residual.astype(np.float64), (own["split"] == "train").to_numpy(), np.asarray(units, dtype=str)


def _attributes(held_out: EvaluationSet, candidates: Candidates, asked: Asked) -> dict[str, dict[str, dict[str, Any]]]:
    """By tissue and attribute: how well it is read from the mean features of donors' generated tiles, and from their
    real ones (`linear_probe`). Nothing where tiles are of other people than the profiles."""
    if not held_out.own_people:
        return {}
    covariates, _ = read_covariates(held_out.cohort, held_out.inputs.cohort, asked.covariates)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    donors = candidates.of_tiles("donor")
    for tissue, rows in candidates.rows.groupby("tissue"):
        here = candidates.of_tiles("tissue") == tissue
        of_tissue = of_donors(covariates, rows.drop_duplicates("sample").set_index("sample"), str(tissue))
        for name, values in of_tissue.values.items():
            known = values.dropna()
            scores = {}
            for kind in ("generated", "real"):
                own = pd.DataFrame(candidates.points[kind][here]).groupby(donors[here]).mean().loc[known.index]
                scores[kind] = linear_probe(own.to_numpy(), known.to_numpy(), np.ones(len(known), bool), asked.seed)
            if scores["generated"] is not None:
                found.setdefault(str(tissue), {})[str(name)] = scores
    return found


def _at_risk(scores: dict[str, tuple[Values, NDArray, NDArray]]) -> list[tuple[str, str]]:
    """Members who stand out, each with the attacks that find it. Where images are of other people than the profiles,
    names of both are here."""
    by_unit: dict[str, list[str]] = {}
    for attack, own in scores.items():
        for unit in at_risk(*own):
            by_unit.setdefault(unit, []).append(attack)
    return [(unit, ", ".join(attacks)) for unit, attacks in sorted(by_unit.items())]


def _flat(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for attack, own in result["membership"].items():
        found[f"{attack}/auc"] = {"value": own["auc"], "low": own["low"], "high": own["high"]}
        found[f"{attack}/caught"] = {"value": own["caught"], "low": own["caught_low"], "high": own["caught_high"]}
    for name in ("share", "found"):
        found[f"copies/{name}"] = {"value": float(result["copies"][name])}
    return found


def _lines(result: dict[str, Any], out: Path, unit: str) -> list[str]:
    said = [f"Who was trained on? AUC (0.5: nothing is known) over {UNITS[unit]}, 95% interval, and what chance gives:"]
    for attack, own in result["membership"].items():
        said.append(
            f"  {ATTACKS[attack]}: {own['auc']:.3f} ({own['low']:.3f} to {own['high']:.3f}), by chance "
            f"{own['chance_low']:.3f} to {own['chance_high']:.3f}; {own['caught']:.1%} of {own['members']} members "
            f"found where {FALSE_POSITIVES:.0%} of {own['others']} others are called members."
        )
    copies = result["copies"]
    said.append(
        f"Copies: {copies['found']} of {copies['generated']:,} generated tiles; {copies['share']:.1%} are nearer to a "
        "training tile than 99% of held-out tiles are (1% expected)."
    )
    for tissue, attributes in result["attributes"].items():
        for name, scores in attributes.items():
            own, real = scores["generated"], scores["real"]
            of_real = "" if real is None else f"; from real tiles {real['score']:.2f}"
            said.append(
                f"{tissue}, {name} from generated tiles: {own['what']} {own['score']:.2f} ({own['score_low']:.2f} to "
                f"{own['score_high']:.2f}), chance {own['chance']:.2f}{of_real}."
            )
    said += result["notes"]
    said.append(
        f"{result['at_risk']} {UNITS[unit]} of the training split stand out; {out / AT_RISK} names them: keep it to "
        f"yourself. {result['seconds']:.0f} s. Page: {out / PAGE}"
    )
    return said
