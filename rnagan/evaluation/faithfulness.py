"""Evaluate a trained model on donors that it has not seen: does what it generates follow the profile?

Morphology against the truth or against the donors' real tiles, retrieval of the right donor, tissue; beside the null (a
model trained on shuffled profiles), and beside training donors (what was learned by heart shows as a gap).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
import torch

from rnagan.api import RNAGAN
from rnagan.cohort.table import claim_of
from rnagan.evaluation.calibration import calibrate
from rnagan.evaluation.donor_evaluation import Comparison, DonorEvaluation, make_donor_evaluation
from rnagan.evaluation.spatial_evidence import has_positions
from rnagan.evaluation.spot_pairs import PLAIN, RealPairs, SpotSettings, evaluate_spots, flat_pairs
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet, open_evaluation_set
from rnagan.io.cells import safe_table
from rnagan.io.claim import stating, with_claim
from rnagan.io.files import atomic_path, write_json
from rnagan.io.images import picture_name, synthetic_texts
from rnagan.io.provenance import KEY, read_current
from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions
from rnagan.reports.figures import measured_on_expected, places_of_donors, real_beside_generated
from rnagan.reports.pages import write_page
from rnagan.runtime import progress, rng
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

DONORS_SHOWN = 6  # rows of a picture, a tissue
TRAIN_DONORS = 200  # a tissue at most, compared with the held-out ones
RESULT, PAGE = "evaluation.json", "faithfulness.html"
PRODUCTS = (
    RESULT,
    PAGE,
    "measures.csv",
    "measures_train.csv",
    "measures.png",
    "retrieval.csv",
    "retrieval.png",
)


def evaluate(
    inputs: EvaluationInputs,
    out: Path,
    split: str = "test",
    n: int = 12,
    seed: int = 0,
    train_donors: int = TRAIN_DONORS,
    device: str | torch.device = AUTO,
    spots: SpotSettings = PLAIN,
    options: SamplingOptions = NO_OPTIONS,
    calibrated: bool = False,
    held_out: EvaluationSet | None = None,
) -> dict[str, Any]:
    """Generate `n` tiles for every profile of `split` and compare; writes `out/evaluation.json` last, and returns it.

    Also written: `faithfulness.html`; `TISSUE.png`, real beside generated; `measures.csv`, one row a sample, and
    `measures.png`, measured on expected; `retrieval.csv`, one row a donor that was looked for, and `retrieval.png`.
    Up to `train_donors` training donors a tissue are evaluated likewise (0: none). The same request is up to date.
    Where tiles have profiles of their own, and the cohort table their positions, `spots_SECTION.png` has the maps of
    each section's measures. `options`: how the models generate, where not as they do by themselves.
    `calibrated`: the model is also evaluated with gains that are fitted on validation donors (`calibration`).
    `held_out`: the evaluation set of these inputs, split and options, where it is open already.

    The result holds the scores of a `Comparison`, `null` (those of a null, where one is given), `train` (those of
    training donors, where there are any), `left_out` (those of profiles in the split of that name), `calibrated` and
    `real_pairs` (`spatial_evidence`).
    """
    own: dict[str, Any] = {} if spots == PLAIN else {"spots": spots.protocol()}
    own |= {"sampling": options.given} if options.given else {}
    own |= {"calibrated": True} if calibrated else {}
    protocol = inputs.protocol(split=split, tiles_per_profile=n, seed=seed, train_donors=train_donors, **own)
    request = inputs.request(protocol)
    result = read_current(out / RESULT, request)
    if result is None:
        held_out = held_out or open_evaluation_set(inputs, split, need="profiles", device=device, options=options)
        with stating(held_out.claim):
            result = {KEY: request} | _evaluate(held_out, out, n, seed, train_donors, spots, calibrated)
            write_page(out / PAGE, result, out)
        write_json(out / RESULT, result)
    names = (*result["pictures"], "measures.png", "retrieval.png", *result.get("real_pairs", {}).get("pictures", ()))
    pictures = [out / name for name in names]
    claim = claim_of(result.get("split_by", "donor"))
    record_evaluation(out, "faithfulness", inputs.model, scores_of(result), protocol, out / PAGE, pictures, claim)
    return result


def _evaluate(
    held_out: EvaluationSet, out: Path, n: int, seed: int, train_donors: int, spots: SpotSettings, calibrated: bool
) -> dict[str, Any]:
    """Evaluate, write all but the page and the result, and return the result."""
    if spots != PLAIN and not has_positions(held_out.shards, held_out.cohort):
        raise ValueError(
            f"--consecutive, --extractor, --measures and --proportions are for spots, and {held_out.inputs.cohort} has "
            "no positions of tiles with profiles of their own (rnagan build-cohort --x-column); leave them out."
        )
    compared = _training_samples(held_out, 0 if held_out.split == "train" else train_donors, seed)
    left_out = held_out.left_out if held_out.split == "test" else pd.Index([])
    truth = held_out.truth(held_out.samples.union(compared).union(left_out))
    for path in (*(out / name for name in PRODUCTS), *out.glob("spots_*.png")):  # of other settings: no longer true
        path.unlink(missing_ok=True)
    model, about = held_out.model, held_out.about
    evaluation = make_donor_evaluation(held_out, truth, compared, n, seed)

    pictured = held_out.samples.intersection(held_out.pictured["sample"])
    shown = _few_of_each(about.loc[sorted(pictured)])
    own = evaluation.compare(model, held_out.samples, shown)
    _write_measures(out / "measures.csv", evaluation, own)
    result: dict[str, Any] = {
        "model": model.digest,
        "split": held_out.split,
        "split_by": held_out.split_by,
        "profiles": len(held_out.samples),
        "tiles_per_profile": n,
        "notes": [*held_out.caveats, *evaluation.notes],
        **_tissue_calls(own, about["tissue"]),
        "pictures": _side_by_side(out, model, seed, own, about["tissue"]),
        **own.scores,
    }
    places = [own.places]
    if held_out.null is not None:
        progress.say("The null: a model trained on profiles shuffled within tissue.")
        null = evaluation.compare(held_out.null, held_out.samples, real=own.real)
        result["null"] = _part(null, model=held_out.null.digest)
        places.append(null.places[null.places["tiles"] == "generated"].assign(tiles="null"))
    if calibrated:
        progress.say("The same with a gain for each component of the condition, fitted on validation donors.")
        gains = calibrate(held_out, model, evaluation.measurer, n, seed)
        other = evaluation.compare(dataclasses.replace(model, gains=gains), held_out.samples, real=own.real)
        result["calibrated"] = _part(other, gains=gains.tolist())
    if len(compared):
        donors = {str(name): len(set(rows)) for name, rows in about.loc[compared].groupby("tissue")["donor"]}
        progress.say(f"The same on training donors: {', '.join(f'{k} of {name}' for name, k in donors.items())}.")
        train = evaluation.compare(model, compared)
        result["train"] = _part(train, donors=donors)
        places.append(train.places.assign(tiles="training donors, " + train.places["tiles"].astype(str)))
        _write_measures(out / "measures_train.csv", evaluation, train)
    if len(left_out):
        progress.say(f"The same on {len(left_out):,} profiles that were left out (build-cohort --leave-out).")
        elsewhere = evaluation.compare(model, left_out)
        result["left_out"] = _part(elsewhere, profiles=len(left_out))
        places.append(elsewhere.places.assign(tiles="left out, " + elsewhere.places["tiles"].astype(str)))
    if has_positions(held_out.shards, held_out.cohort):
        progress.say("Spots of each section: generated tiles against the spot's own real tile.")
        result["real_pairs"] = evaluate_spots(held_out, out, n, seed, spots)
        result["notes"] += result["real_pairs"].pop("notes")
    _draw(out, evaluation, own)
    _write_places(out, places)
    return result


def _part(other: Comparison, **about: Any) -> dict[str, Any]:
    """What the result says of another model or of other donors."""
    return about | {"tissue_accuracy": float(other.generated.right.mean())} | other.scores


def _tissue_calls(own: Comparison, tissue_of: pd.Series) -> dict[str, Any]:
    """Shares of tiles whose tissue is called right: over all samples and by tissue."""
    has_real = len(own.real.right) > 0
    real = {"real": own.real.called_right(tissue_of)} if has_real else {}
    return {
        "tissue_accuracy": float(own.generated.right.mean()),
        "tissue_accuracy_real": float(own.real.right.mean()) if has_real else None,
        "tissue_accuracy_of": {"generated": own.generated.called_right(tissue_of)} | real,
    }


class _Measure(TypedDict):
    r: float | None
    low: float | None
    high: float | None
    slope: float | None
    ceiling: float | None
    p: float | None


class _Ranks(TypedDict, total=False):
    rank: float | None
    rank_low: float | None
    rank_high: float | None
    top1: float | None
    top1_low: float | None
    top1_high: float | None
    top5: float | None
    top5_low: float | None
    top5_high: float | None


class _Part(TypedDict, total=False):
    tissue_accuracy: float | None
    tissue_accuracy_real: float | None
    faithfulness: dict[str, dict[str, _Measure]]
    on_real_tiles: dict[str, dict[str, _Measure]]
    retrieval: dict[str, dict[str, dict[str, _Ranks]]]


class Result(_Part):
    """The evaluation.json, as far as `scores_of` reads it; `null`, `train` and `left_out` as the whole."""

    model: str
    split: str
    profiles: int
    tiles_per_profile: int
    null: NotRequired[_Part]
    train: NotRequired[_Part]
    left_out: NotRequired[_Part]
    calibrated: NotRequired[_Part]
    real_pairs: NotRequired[RealPairs]


def scores_of(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of an evaluation by flat names: TISSUE/MEASURE/r …, retrieval/TISSUE/TILES/AMONG/rank …; those of the
    null, of training donors, of those who were left out and of the calibrated model under `null/`, `train/`,
    `left_out/` and `calibrated/`; real_pairs/SECTION/MEASURE/r …, real_pairs/SECTION/place."""
    found = _flat_scores(result) | flat_pairs(result.get("real_pairs", {}).get("sections", {}))
    for part in ("null", "train", "left_out", "calibrated"):
        found |= {f"{part}/{name}": score for name, score in _flat_scores(result.get(part, {})).items()}
    return found


def _flat_scores(part: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    names = ("tissue_accuracy", "tissue_accuracy_real")
    found = {name: {"value": part[name]} for name in names if part.get(name) is not None}
    for kind in ("faithfulness", "on_real_tiles"):
        for tissue, measures in part.get(kind, {}).items():
            for measure, score in measures.items():
                at = f"{kind}/{tissue}/{measure}"
                found[f"{at}/r"] = {"value": score["r"], "low": score["low"], "high": score["high"]}
                found |= {f"{at}/{name}": {"value": score[name]} for name in ("slope", "ceiling", "p")}
    for tissue, kinds in part.get("retrieval", {}).items():
        for kind, groups in kinds.items():
            for among, score in groups.items():
                for name in ("rank", "top1", "top5"):
                    ends = {"low": score.get(f"{name}_low"), "high": score.get(f"{name}_high")}
                    found[f"retrieval/{tissue}/{kind}/{among}/{name}"] = {"value": score.get(name)} | ends
    return {name: score for name, score in found.items() if score["value"] is not None}


def _few_of_each(about: pd.DataFrame) -> list[str]:
    """The first DONORS_SHOWN samples of each tissue."""
    return [sample for _, own in about.groupby("tissue") for sample in own.index[:DONORS_SHOWN]]


def _training_samples(held_out: EvaluationSet, most: int, seed: int) -> pd.Index:
    """Profiles with tiles of training donors, drawn at random: at most `most` donors a tissue, no more than are held
    out of it, and a third of all at most, since the others train the network that reads profiles from tiles."""
    about = held_out.about
    train = about[about.index.isin(held_out.pictured["sample"]) & (about["split"] == "train")]
    donors = np.array(sorted(set(train["donor"])), dtype=object)
    drawn = rng.generator(seed, "training donors compared").permutation(donors)[: len(donors) // 3].tolist()
    chosen: list[str] = []
    for tissue, rows in about.loc[held_out.samples].groupby("tissue"):
        of_donor = train[train["tissue"] == tissue].groupby("donor").groups
        wanted = [donor for donor in drawn if donor in of_donor][: min(most, rows["donor"].nunique())]
        chosen += [sample for donor in wanted for sample in of_donor[donor]]
    return pd.Index(chosen, name="sample", dtype=object)


def _write_measures(path: Path, evaluation: DonorEvaluation, own: Comparison) -> None:
    """One row a sample: measures on generated tiles, on real ones, and expected, as far as they are known."""
    if own.generated.measures.empty:
        return
    table = own.generated.measures.join(own.real.measures, rsuffix="_real")
    expected = evaluation.held_out.about if evaluation.truth is None else evaluation.truth
    with atomic_path(path) as temporary:
        safe_table(with_claim(table.join(expected, rsuffix="_expected"))).to_csv(temporary)


def _draw(out: Path, evaluation: DonorEvaluation, own: Comparison) -> None:
    """The chart of measured on expected, where anything is expected."""
    real, generated = own.real.measures, own.generated.measures
    if found := own.scores.get("faithfulness"):
        assert evaluation.truth is not None
        measured_on_expected(out / "measures.png", found, evaluation.truth, generated, real)
    elif found := own.scores.get("on_real_tiles"):
        expected = evaluation.held_out.about.join(real)
        both = generated.loc[real.index]
        measured_on_expected(out / "measures.png", found, expected, both, real.iloc[:0], "on real tiles:")


def _write_places(out: Path, places: list[pd.DataFrame]) -> None:
    """The chart and the table of the places of all donors that were looked for, where there are any."""
    filled = [table for table in places if len(table)]
    if filled:
        places_of_donors(out / "retrieval.png", pd.concat(filled))
        with atomic_path(out / "retrieval.csv") as temporary:
            safe_table(with_claim(pd.concat(filled))).to_csv(temporary, index=False)


def _side_by_side(out: Path, model: RNAGAN, seed: int, own: Comparison, tissue_of: pd.Series) -> list[str]:
    """A picture for each tissue of a few held-out donors, real beside generated; returns the file names."""
    real, generated = own.real.shown, own.generated.shown
    names: list[str] = []
    taken = {"measures", "retrieval"}
    texts = synthetic_texts(model.digest, "those named beside the rows", seed, model.mpp)
    for tissue, samples in tissue_of[sorted(real)].groupby(tissue_of):
        shown = samples.index.tolist()
        names.append(f"{picture_name(str(tissue), taken)}.png")
        tiles = np.stack([generated[sample] for sample in shown])
        real_beside_generated(out / names[-1], [real[sample] for sample in shown], tiles, shown, texts)
    return names
