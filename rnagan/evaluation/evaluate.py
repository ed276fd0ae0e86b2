"""Evaluate a trained model on the donors of a split: tissue, morphology against the truth, pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import rnagan
from rnagan.cohort.donors import seen_donors
from rnagan.cohort.names import shard_name
from rnagan.cohort.table import read_cohort
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.selection import select
from rnagan.evaluation.faithfulness import (
    faithfulness,
    mean_measures,
    paint_profiles,
    tiles_of_samples,
    tissue_accuracy,
)
from rnagan.evaluation.figures import measured_on_expected, real_beside_painted
from rnagan.evaluation.morphology import MEASURES
from rnagan.expression.store import check_same_splits, read_expression
from rnagan.files import atomic_path, read_json, sha256_of, sha256_of_file, write_json
from rnagan.pictures import synthetic_texts
from rnagan.pretrained import RNAGAN
from rnagan.tables import first_few, need_columns, read_table

DONORS_SHOWN = 6  # rows of a picture, a tissue
MPP_TOLERANCE = 0.02
TILES_SHOWN = 8  # columns, of real and of painted tiles each


@dataclasses.dataclass(frozen=True)
class EvaluationInputs:
    """Paths. `truth` (a table by sample with the expected measures) is there for simulated cohorts only."""

    model: Path
    shards: Path | str
    cohort: Path
    expression: Path
    truth: Path | None = None


def evaluate(inputs: EvaluationInputs, out: Path, split: str = "test", n: int = 12, seed: int = 0) -> dict[str, Any]:
    """Paint `n` tiles for every profile of `split` and compare; writes `out/evaluation.json` last, and returns it.

    Also written: `TISSUE.png` (real beside painted) and, with `truth`, `measures.csv` (one row a sample) and
    `measures.png`.
    """
    model = RNAGAN.from_pretrained(inputs.model)
    shards = open_dataset(inputs.shards)
    tables = [inputs.cohort, inputs.expression, *([] if inputs.truth is None else [inputs.truth])]
    asked = sha256_of(
        {
            "model": model.digest,
            "shards": shards.digest,
            "tables": [sha256_of_file(path) for path in tables],
            "split": split,
            "n": n,
            "seed": seed,
            "version": rnagan.__version__,
        }
    )
    if (out / "evaluation.json").is_file() and (stored := read_json(out / "evaluation.json"))["asked"] == asked:
        return stored
    cohort, expression = read_cohort(inputs.cohort), read_expression(inputs.expression)
    check_same_splits(cohort, expression, inputs.cohort, inputs.expression)
    resolution, tissue_of = model.config.resolution, expression.obs["tissue"]
    train = select(shards, cohort, "train", n).table
    pictured = shards.slides.loc[shards.slides["tiles"] > 0, "slide"]
    held_out = cohort[(cohort["split"] == split) & cohort["slide"].isin(pictured)].drop_duplicates("slide")
    chosen = (expression.obs["split"] == split) & tissue_of.isin(model.tissues)
    if not chosen.any():
        raise ValueError(f"{inputs.expression} has no profile of {', '.join(model.tissues)} in split {split}.")
    if split != "train" and expression.split_by == "donor":
        _check_held_out(model, expression.obs.loc[chosen, "donor"], split)
    _check_fit(model, shards)
    truth = None if inputs.truth is None else _read_truth(inputs, model, shards, expression.obs.index[chosen])
    for name in ("evaluation.json", "measures.csv", "measures.png"):  # of other settings: no longer true
        (out / name).unlink(missing_ok=True)
    painted = paint_profiles(model, expression, expression.obs.index[chosen].tolist(), n, seed)
    real = tiles_of_samples(shards, held_out[held_out["sample"].isin(painted)], n, resolution)
    accuracy = tissue_accuracy(shards, train, real, painted, tissue_of, resolution, seed)
    result: dict[str, Any] = {
        "asked": asked,
        "model": model.digest,
        "split": split,
        "profiles": len(painted),
        "tiles_per_profile": n,
        "tissue_accuracy": accuracy["painted"],
        "tissue_accuracy_real": accuracy["real"],
        "pictures": _side_by_side(out, model, seed, real, painted, tissue_of),
    }
    if truth is not None:
        assert model.mpp is not None  # _read_truth refuses it
        measured, measured_real = (mean_measures(tiles, model.mpp) for tiles in (painted, real))
        result["faithfulness"] = faithfulness(truth, measured, measured_real, seed)
        if result["faithfulness"]:
            measured_on_expected(out / "measures.png", result["faithfulness"], truth, measured, measured_real)
        table = measured.join(measured_real, rsuffix="_real").join(truth, rsuffix="_expected")
        with atomic_path(out / "measures.csv") as temporary:
            table.to_csv(temporary)
    write_json(out / "evaluation.json", result)
    return result


def _check_held_out(model: RNAGAN, donors: pd.Series, split: str) -> None:
    """Refuse donors who were in the model's training split."""
    seen = seen_donors(donors, model.train_donors)
    if seen:
        raise ValueError(
            f"{len(seen)} donors of split {split} ({first_few(seen)}) were in the training split of this model; give "
            "the cohort table that it was trained with, or one that extends it."
        )


def _check_fit(model: RNAGAN, shards: ShardSet) -> None:
    """Refuse real tiles of another size or resolution than the painted ones."""
    resolution, real_mpp = model.config.resolution, shards.mpp_at(model.config.resolution)
    other_mpp = model.mpp and real_mpp and abs(real_mpp / model.mpp - 1) > MPP_TOLERANCE
    if shards.tile_px % resolution or other_mpp:
        raise ValueError(
            f"{shards.address} holds tiles of {shards.tile_px} px at {shards.mpp} µm per px, and the model paints "
            f"{resolution} px at {model.mpp}; give shards of the kind that it was trained on."
        )


def _read_truth(inputs: EvaluationInputs, model: RNAGAN, shards: ShardSet, samples: pd.Index) -> pd.DataFrame:
    """The truth table by sample, checked before anything is painted."""
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
    painted: dict[str, NDArray[np.uint8]],
    tissue_of: pd.Series,
) -> list[str]:
    """A picture for each tissue of a few held-out donors, real beside painted; returns the file names."""
    names = []
    told = synthetic_texts(model.digest, "those named beside the rows", seed, model.mpp)
    for tissue, samples in tissue_of[sorted(real)].groupby(tissue_of):
        shown = samples.index[:DONORS_SHOWN].tolist()
        names.append(f"{shard_name(str(tissue).replace('/', '_'))}.png")
        tiles = np.stack([painted[sample][:TILES_SHOWN] for sample in shown])
        real_beside_painted(out / names[-1], [real[sample] for sample in shown], tiles, shown, told)
    return names
