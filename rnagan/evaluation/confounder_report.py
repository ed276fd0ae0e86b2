"""From a trained model and its cohort to a report of what it learnt beside morphology."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rnagan.api import RNAGAN
from rnagan.cohort.leakage import check_same_splits, refuse_seen
from rnagan.cohort.table import read_cohort
from rnagan.data.index import open_dataset
from rnagan.evaluation.confounders import Tables, separate
from rnagan.evaluation.covariates import read_covariates
from rnagan.evaluation.donor_evaluation import generated_tiles, real_tiles
from rnagan.evaluation.faithfulness import EvaluationInputs, check_fit, read_truth
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.programmes import genes_of_model, read_programmes
from rnagan.evaluation.programmes import scores as programme_scores
from rnagan.evaluation.tile_measurements import measure_samples
from rnagan.expression.h5ad import Expression, read_expression
from rnagan.io.files import atomic_path, write_json
from rnagan.reports.confounder_page import heat_map, long_form, scores, sentences, write_confounder_page
from rnagan.runtime import progress

PAGE = "confounders.html"
PRODUCTS = ("confounders.json", "confounders.csv", "confounders.png", PAGE)
UNITS = 8  # of the condition stand in for programmes, where none are given
NOT_OWN = "Tiles and profiles are of different people, so real tiles say nothing of these donors: they are left out."


@dataclasses.dataclass(frozen=True)
class Asked:
    """`covariates`: columns of the cohort table, those of `covariates.DEFAULT` if empty; `categories`: those whose
    numbers are labels; `programmes`: a table of genes; `n`: tiles a profile; `draws`: of bootstraps and
    permutations."""

    covariates: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    programmes: Path | None = None
    split: str = "test"
    n: int = 12
    seed: int = 0
    draws: int = 1999


def confounder_report(inputs: EvaluationInputs, asked: Asked, out: Path) -> list[str]:
    """Generate for the donors of a split, measure, and tell covariates from programmes; returns what to tell the user.

    Writes `confounders.png`, `confounders.csv` (one row a figure), `confounders.html` and, last, `confounders.json`.
    """
    model, shards = RNAGAN.from_pretrained(inputs.model), open_dataset(inputs.shards)
    if model.vae is None:
        raise ValueError(f"{inputs.model} was trained in mode {model.config.mode}: RNA has no say in its tiles.")
    if model.mpp is None:
        raise ValueError(f"{inputs.model} doesn't say the µm per px of its tiles, so they can't be measured.")
    cohort, expression = read_cohort(inputs.cohort), read_expression(inputs.expression)
    check_same_splits(cohort, expression.obs, inputs.cohort, inputs.expression)
    covariates, notes = read_covariates(cohort, inputs.cohort, asked.covariates, asked.categories)
    if covariates.empty:
        raise ValueError(f"{inputs.cohort} has no covariate; name its columns with --covariates.")
    about = expression.obs
    samples = about.index[(about["split"] == asked.split) & about["tissue"].isin(model.tissues)]
    if not len(samples):
        raise ValueError(f"{inputs.expression} has no profile of {', '.join(model.tissues)} in split {asked.split}.")
    check_fit(model, shards)
    if asked.split != "train" and expression.split_by == "donor":
        given = "the cohort table that it was trained with"
        refuse_seen(about.loc[samples, "donor"], model.train_donors, asked.split, "this model", given)
    truth = None if inputs.truth is None else read_truth(inputs, model, shards, samples)
    condition, programmes, told = _from_rna(model, expression, asked.programmes)
    notes += told
    for name in PRODUCTS:  # of other settings: no longer true
        (out / name).unlink(missing_ok=True)

    pictured = cohort[cohort["slide"].isin(shards.slides.loc[shards.slides["tiles"] > 0, "slide"])]
    pictured = pictured[pictured["sample"].isin(samples)].drop_duplicates("slide")
    if "image_donor" in cohort and (cohort["image_donor"] != "").any():
        pictured = pictured.iloc[:0]
        notes.append(NOT_OWN)
    progress.say(f"{len(samples):,} profiles of split {asked.split}, {pictured['sample'].nunique():,} with real tiles.")
    tiles = generated_tiles(model, expression, samples.tolist(), asked.n, asked.seed)
    measures = {"generated": measure_samples(tiles, model.mpp)}
    if len(pictured):
        of_real = real_tiles(shards, pictured, asked.n, model.config.resolution)
        measures["real"] = measure_samples(of_real, model.mpp)
    reference = truth if truth is not None else measures.get("real", measures["generated"].iloc[:0])
    tables = Tables(about, measures, reference[list(MEASURES)], covariates, programmes, condition)
    tissues = separate(tables, asked.seed, asked.draws)
    result: dict[str, Any] = {
        "model": model.digest,
        "split": asked.split,
        "profiles": len(samples),
        "tiles_per_profile": asked.n,
        "reference": "real tiles" if truth is None else "the truth",
        "covariates": list(covariates),
        "programmes": list(programmes),
        "notes": notes,
        "tissues": tissues,
        "conclusions": sentences(tissues, "real tiles" if truth is None else "the truth"),
        "scores": scores(tissues),
    }
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "confounders.csv") as temporary:
        long_form(tissues).to_csv(temporary, index=False)
    heat_map(out / "confounders.png", tissues)
    write_confounder_page(out / PAGE, result, out / "confounders.png")
    write_json(out / "confounders.json", result)
    return [*notes, *result["conclusions"].values(), f"Page: {out / PAGE}"]


def _from_rna(model: RNAGAN, expression: Expression, path: Path | None) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The condition and the programmes of every profile of a tissue that the model knows, by sample, and notes."""
    assert model.vae is not None and model.bottleneck is not None
    rows = np.flatnonzero(expression.obs["tissue"].isin(model.tissues))
    index, values = expression.obs.index[rows], expression.values[rows]
    latents = model.latents(values, expression.genes, expression.units)
    with torch.no_grad():
        condition = pd.DataFrame(model.bottleneck(torch.from_numpy(latents)).numpy().astype(np.float64), index)
    if path is None:
        few = condition.iloc[:, :UNITS].rename(columns=lambda k: f"unit {k + 1}")
        told = f"the first {few.shape[1]} of {condition.shape[1]} units of the model's condition stand for them"
        return condition, few, [f"No --programmes: {told}."]
    notes, found = [], {}
    z = model.vae.transform.apply(values, expression.genes, expression.units)
    for name, programme in read_programmes(path, loadings=False).items():
        columns, loading = genes_of_model(programme, name, model.vae, path)
        if len(columns) < len(programme):
            notes.append(f"{name}: {len(programme) - len(columns):,} of {len(programme):,} genes aren't the model's.")
        found[name] = programme_scores(z, columns, loading)
    return condition, pd.DataFrame(found, index), notes
