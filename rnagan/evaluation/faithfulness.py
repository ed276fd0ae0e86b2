"""Evaluate a trained model on donors that it has not seen: does what it generates follow the profile?

Morphology against the truth or against the donors' real tiles, retrieval of the right donor, tissue; beside the null (a
model trained on shuffled profiles), and beside training donors (what was learned by heart shows as a gap).
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import rnagan
from rnagan.api import RNAGAN
from rnagan.cohort.leakage import check_same_splits, refuse_seen
from rnagan.cohort.slide_ids import shard_name
from rnagan.cohort.table import read_cohort
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.selection import select
from rnagan.data.shard_schema import MPP_TOLERANCE
from rnagan.evaluation.donor_evaluation import DonorEvaluation, make_donor_evaluation
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.tile_measurements import TileMeasurements
from rnagan.expression.h5ad import read_expression
from rnagan.io.files import atomic_path, read_json, sha256_of, sha256_of_file, write_json
from rnagan.io.images import synthetic_texts
from rnagan.io.tables import need_columns, read_table
from rnagan.reports.figures import measured_on_expected, places_of_donors, real_beside_generated
from rnagan.reports.pages import write_page
from rnagan.runtime import progress, rng

DONORS_SHOWN = 6  # rows of a picture, a tissue
TILES_SHOWN = 8  # columns, of real and of generated tiles each
TRAIN_DONORS = 200  # a tissue at most, compared with the held-out ones
PAGE = "faithfulness.html"
PRODUCTS = (
    "evaluation.json",
    PAGE,
    "measures.csv",
    "measures_train.csv",
    "measures.png",
    "retrieval.csv",
    "retrieval.png",
)


@dataclasses.dataclass(frozen=True)
class EvaluationInputs:
    """Paths. `truth` (a table by sample with the expected measures) is there for simulated cohorts only; `null`: a
    model trained with shuffle_profiles."""

    model: Path
    shards: Path | str
    cohort: Path
    expression: Path
    truth: Path | None = None
    null: Path | None = None


def evaluate(
    inputs: EvaluationInputs,
    out: Path,
    split: str = "test",
    n: int = 12,
    seed: int = 0,
    train_donors: int = TRAIN_DONORS,
) -> dict[str, Any]:
    """Generate `n` tiles for every profile of `split` and compare; writes `out/evaluation.json` last, and returns it.

    Also written: `faithfulness.html`; `TISSUE.png`, real beside generated; `measures.csv`, one row a sample, and
    `measures.png`, measured on expected; `retrieval.csv`, one row a donor that was looked for, and `retrieval.png`.
    Up to `train_donors` training donors a tissue are evaluated likewise (0: none).
    """
    model, shards = RNAGAN.from_pretrained(inputs.model), open_dataset(inputs.shards)
    null = None if inputs.null is None else RNAGAN.from_pretrained(inputs.null)
    tables = [inputs.cohort, inputs.expression, *([] if inputs.truth is None else [inputs.truth])]
    asked = sha256_of(
        {
            "model": model.digest,
            "null": None if null is None else null.digest,
            "shards": shards.digest,
            "tables": [sha256_of_file(path) for path in tables],
            "split": split,
            "n": n,
            "seed": seed,
            "train_donors": train_donors,
            "version": rnagan.__version__,
        }
    )
    if (out / "evaluation.json").is_file() and (stored := read_json(out / "evaluation.json"))["asked"] == asked:
        return stored
    cohort, expression = read_cohort(inputs.cohort), read_expression(inputs.expression)
    check_same_splits(cohort, expression.obs, inputs.cohort, inputs.expression)
    site = cohort.drop_duplicates("sample").set_index("sample")["site"]
    about = expression.obs.assign(site=site.reindex(expression.obs.index).fillna(""))
    held_out = about.index[(about["split"] == split) & about["tissue"].isin(model.tissues)]
    if not len(held_out):
        raise ValueError(f"{inputs.expression} has no profile of {', '.join(model.tissues)} in split {split}.")
    check_fit(model, shards)
    if null is not None:
        _check_null(null, model, inputs.null)
    if split != "train" and expression.split_by == "donor":
        for each in (model, *([] if null is None else [null])):
            donors = about.loc[held_out, "donor"]
            refuse_seen(donors, each.train_donors, split, "this model", "the cohort table that it was trained with")
    pictured = cohort[cohort["slide"].isin(shards.slides.loc[shards.slides["tiles"] > 0, "slide"])]
    pictured = pictured[pictured["sample"].isin(about.index)].drop_duplicates("slide")
    compared = _training_samples(about, held_out, pictured, 0 if split == "train" else train_donors, seed)
    truth = None if inputs.truth is None else read_truth(inputs, model, shards, held_out.union(compared))
    for name in PRODUCTS:  # of other settings: no longer true
        (out / name).unlink(missing_ok=True)

    own_people = "image_donor" not in cohort or not (cohort["image_donor"] != "").any()
    train, fixed = select(shards, cohort, "train", n).table, (own_people, n, seed)
    evaluation = make_donor_evaluation(
        shards, train, pictured, expression, about, truth, model, split, compared, *fixed
    )
    shown = _few_of_each(about.loc[sorted(set(pictured["sample"]) & set(held_out))])
    real, generated = (
        evaluation.real(held_out, model.config.resolution, shown),
        evaluation.generated(model, held_out, shown),
    )
    evaluated, found = evaluation.compare(held_out, real, generated)
    places = [found]
    of_real = {"real": real.called_right(about["tissue"])} if len(real.right) else {}
    result: dict[str, Any] = {
        "asked": asked,
        "model": model.digest,
        "split": split,
        "profiles": len(held_out),
        "tiles_per_profile": n,
        "notes": evaluation.notes,
        "tissue_accuracy": float(generated.right.mean()),
        "tissue_accuracy_real": float(real.right.mean()) if len(real.right) else None,
        "tissue_accuracy_of": {"generated": generated.called_right(about["tissue"])} | of_real,
        "pictures": _side_by_side(out, model, seed, real.shown, generated.shown, about["tissue"]),
        **evaluated,
    }
    _write_measures(out / "measures.csv", evaluation, generated, real)
    if null is not None:
        progress.say("The null: a model trained on profiles shuffled within tissue.")
        of_null = evaluation.generated(null, held_out)
        evaluated, found = evaluation.compare(held_out, real, of_null)
        result["null"] = {"model": null.digest, "tissue_accuracy": float(of_null.right.mean())} | evaluated
        places.append(found[found["tiles"] == "generated"].assign(tiles="null"))
    if len(compared):
        donors = {str(name): len(set(rows)) for name, rows in about.loc[compared].groupby("tissue")["donor"]}
        progress.say(f"The same on training donors: {', '.join(f'{k} of {name}' for name, k in donors.items())}.")
        real_train, generated_train = (
            evaluation.real(compared, model.config.resolution),
            evaluation.generated(model, compared),
        )
        evaluated, found = evaluation.compare(compared, real_train, generated_train)
        result["train"] = {"donors": donors, "tissue_accuracy": float(generated_train.right.mean())} | evaluated
        places.append(found.assign(tiles="training donors, " + found["tiles"].astype(str)))
        _write_measures(out / "measures_train.csv", evaluation, generated_train, real_train)
    places = [table for table in places if len(table)]
    _draw(out, evaluation, result, generated, real, pd.concat(places) if places else None)
    write_page(out / PAGE, result, out)
    write_json(out / "evaluation.json", result)
    return result


def _few_of_each(about: pd.DataFrame) -> list[str]:
    """The first DONORS_SHOWN samples of each tissue."""
    return [sample for _, own in about.groupby("tissue") for sample in own.index[:DONORS_SHOWN]]


def _training_samples(
    about: pd.DataFrame, held_out: pd.Index, pictured: pd.DataFrame, most: int, seed: int
) -> pd.Index:
    """Profiles with tiles of training donors, drawn at random: at most `most` a tissue, no more than are held out of
    it, and a third of all at most, since the others teach the network that reads tiles."""
    train = about[about.index.isin(pictured["sample"]) & (about["split"] == "train")]
    donors = np.array(sorted(set(train["donor"])), dtype=object)
    drawn = rng.generator(seed, "training donors compared").permutation(donors)[: len(donors) // 3].tolist()
    chosen: list[str] = []
    for tissue, rows in about.loc[held_out].groupby("tissue"):
        of_donor = train[train["tissue"] == tissue].groupby("donor").groups
        wanted = [donor for donor in drawn if donor in of_donor][: min(most, rows["donor"].nunique())]
        chosen += [sample for donor in wanted for sample in of_donor[donor]]
    return pd.Index(chosen, name="sample", dtype=object)


def _write_measures(
    path: Path, evaluation: DonorEvaluation, generated: TileMeasurements, real: TileMeasurements
) -> None:
    """One row a sample: measures on generated tiles, on real ones, and expected, as far as they are known."""
    if generated.measures.empty:
        return
    table = generated.measures.join(real.measures, rsuffix="_real")
    table = table.join(evaluation.about if evaluation.truth is None else evaluation.truth, rsuffix="_expected")
    with atomic_path(path) as temporary:
        table.to_csv(temporary)


def _draw(
    out: Path,
    evaluation: DonorEvaluation,
    result: dict[str, Any],
    generated: TileMeasurements,
    real: TileMeasurements,
    places: pd.DataFrame | None,
) -> None:
    """The charts, and the table of places, where there are any."""
    if result.get("faithfulness"):
        assert evaluation.truth is not None
        measured_on_expected(
            out / "measures.png", result["faithfulness"], evaluation.truth, generated.measures, real.measures
        )
    elif result.get("on_real_tiles"):
        expected, both = evaluation.about.join(real.measures), generated.measures.loc[real.measures.index]
        nothing = real.measures.iloc[:0]
        measured_on_expected(out / "measures.png", result["on_real_tiles"], expected, both, nothing, "on real tiles:")
    if places is not None:
        places_of_donors(out / "retrieval.png", places)
        with atomic_path(out / "retrieval.csv") as temporary:
            places.to_csv(temporary, index=False)


def _check_null(null: RNAGAN, model: RNAGAN, path: Path | None) -> None:
    """Refuse a null that saw its own profiles, or that can't be compared."""
    if not null.config.shuffle_profiles:
        raise ValueError(
            f"{path} was trained on each slide's own profile, so it is no null; train one with --shuffle-profiles."
        )
    same = (null.config.resolution, null.mpp, sorted(null.tissues)) == (
        model.config.resolution,
        model.mpp,
        sorted(model.tissues),
    )
    if not same:
        raise ValueError(f"{path} generates tiles of another kind or other tissues than the model; train it alike.")


def check_fit(model: RNAGAN, shards: ShardSet) -> None:
    """Refuse real tiles of another size or resolution than the generated ones."""
    resolution, real_mpp = model.config.resolution, shards.mpp_at(model.config.resolution)
    other_mpp = model.mpp and real_mpp and abs(real_mpp / model.mpp - 1) > MPP_TOLERANCE
    if shards.tile_px % resolution or other_mpp:
        raise ValueError(
            f"{shards.address} holds tiles of {shards.tile_px} px at {shards.mpp} µm per px, and the model generates "
            f"{resolution} px at {model.mpp}; give shards of the kind that it was trained on."
        )


def read_truth(inputs: EvaluationInputs, model: RNAGAN, shards: ShardSet, samples: pd.Index) -> pd.DataFrame:
    """The truth table by sample, checked before anything is generated."""
    assert inputs.truth is not None
    if model.mpp is None or shards.mpp is None:
        unknown_of = inputs.shards if shards.mpp is None else inputs.model
        raise ValueError(f"{unknown_of} doesn't say the µm per px of its tiles, so they can't be measured.")
    truth = read_table(inputs.truth)
    need_columns(list(truth), ("sample", "donor", "tissue", "site", *MEASURES), inputs.truth)
    try:
        truth[list(MEASURES)] = truth[list(MEASURES)].apply(pd.to_numeric)
    except ValueError as error:
        raise ValueError(f"{inputs.truth} holds a measure that is no number ({error}).") from None
    truth = truth.drop_duplicates("sample").set_index("sample")
    unknown = samples.difference(truth.index)
    if len(unknown):
        raise ValueError(f"{inputs.truth} lacks {len(unknown)} samples ({unknown[0]} …); give that of this cohort.")
    return truth


def _side_by_side(
    out: Path,
    model: RNAGAN,
    seed: int,
    real: dict[str, NDArray[np.uint8]],
    generated: dict[str, NDArray[np.uint8]],
    tissue_of: pd.Series,
) -> list[str]:
    """A picture for each tissue of a few held-out donors, real beside generated; returns the file names."""
    names: list[str] = []
    told = synthetic_texts(model.digest, "those named beside the rows", seed, model.mpp)
    for tissue, samples in tissue_of[sorted(real)].groupby(tissue_of):
        shown = samples.index.tolist()
        names.append(f"{shard_name(str(tissue).replace('/', '_'))}.png")
        tiles = np.stack([generated[sample][:TILES_SHOWN] for sample in shown])
        real_beside_generated(out / names[-1], [real[sample] for sample in shown], tiles, shown, told)
    return names
