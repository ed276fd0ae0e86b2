"""From a trained model and its cohort to a report of what it learnt beside morphology."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rnagan.evaluation.confounders import Tables, separate
from rnagan.evaluation.covariates import read_covariates
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.programmes import genes_of_model, read_programmes
from rnagan.evaluation.programmes import scores as programme_scores
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet, open_evaluation_set
from rnagan.evaluation.tile_measurements import measure_samples
from rnagan.io.cells import safe_table
from rnagan.io.claim import stating, with_claim
from rnagan.io.files import atomic_path, sha256_of_file, write_json
from rnagan.reports.confounder_page import heat_map, long_form, scores, sentences, write_confounder_page
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

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


def confounder_report(
    inputs: EvaluationInputs, asked: Asked, out: Path, device: str | torch.device = AUTO
) -> list[str]:
    """Generate for the donors of a split, measure, and separate covariates from programmes; returns lines for the user.

    Writes `confounders.png`, `confounders.csv` (one row a figure), `confounders.html` and, last, `confounders.json`.
    """
    held_out = open_evaluation_set(inputs, asked.split, need="profiles", device=device)
    held_out.need_mpp()
    covariates, notes = read_covariates(held_out.cohort, inputs.cohort, asked.covariates, asked.categories)
    if covariates.empty:
        raise ValueError(f"{inputs.cohort} has no covariate; name its columns with --covariates.")
    truth = held_out.truth(held_out.samples)
    condition, programmes, more = _from_rna(held_out, asked.programmes)
    notes = [*held_out.caveats, *notes, *more]
    for name in PRODUCTS:  # of other settings: no longer true
        (out / name).unlink(missing_ok=True)

    measures = _measures(held_out, asked, notes)
    reference = truth if truth is not None else measures.get("real", measures["generated"].iloc[:0])
    tables = Tables(held_out.about, measures, reference[list(MEASURES)], covariates, programmes, condition)
    tissues = separate(tables, asked.seed, asked.draws)
    against = "real tiles" if truth is None else "the truth"
    result: dict[str, Any] = {
        "model": held_out.model.digest,
        "split": asked.split,
        "split_by": held_out.split_by,
        "profiles": len(held_out.samples),
        "tiles_per_profile": asked.n,
        "reference": against,
        "covariates": list(covariates),
        "programmes": list(programmes),
        "notes": notes,
        "tissues": tissues,
        "conclusions": sentences(tissues, against),
        "scores": scores(tissues),
    }
    out.mkdir(parents=True, exist_ok=True)
    with stating(held_out.claim):
        with atomic_path(out / "confounders.csv") as temporary:
            safe_table(with_claim(long_form(tissues))).to_csv(temporary, index=False)
        heat_map(out / "confounders.png", tissues)
        write_confounder_page(out / PAGE, result, out / "confounders.png")
    write_json(out / "confounders.json", result)
    programmes_digest = None if asked.programmes is None else sha256_of_file(asked.programmes)
    protocol = inputs.protocol(**dataclasses.asdict(asked) | {"programmes": programmes_digest})
    flat = {score["name"]: score for score in result["scores"]}
    pictures = [out / "confounders.png"]
    record_evaluation(out, "confounders", inputs.model, flat, protocol, out / PAGE, pictures, held_out.claim)
    return [*notes, *result["conclusions"].values(), f"Page: {out / PAGE}"]


def _measures(held_out: EvaluationSet, asked: Asked, notes: list[str]) -> dict[str, pd.DataFrame]:
    """Measures by sample of generated tiles and, where these donors have any, of real ones."""
    pictured = held_out.samples.intersection(held_out.pictured["sample"])
    if not held_out.own_people:
        pictured = pictured[:0]
        notes.append(NOT_OWN)
    progress.say(f"{len(held_out.samples):,} profiles of split {held_out.split}, {len(pictured):,} with real tiles.")
    model, mpp = held_out.model, held_out.need_mpp()
    measures = {"generated": measure_samples(held_out.generated_of(model, held_out.samples, asked.n, asked.seed), mpp)}
    if len(pictured):
        measures["real"] = measure_samples(held_out.real_of(pictured, asked.n), mpp)
    return measures


def _from_rna(held_out: EvaluationSet, path: Path | None) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The condition and the programmes of every profile of a tissue that the model knows, by sample, and notes."""
    model, expression = held_out.model, held_out.expression
    assert expression is not None
    rows = np.flatnonzero(expression.obs["tissue"].isin(model.tissues))
    index, values = expression.obs.index[rows], expression.values[rows]
    latents = model.latents(values, expression.genes, expression.units)
    condition = pd.DataFrame(model.conditions(latents).astype(np.float64), index)
    if path is None:
        few = condition.iloc[:, :UNITS].rename(columns=lambda k: f"unit {k + 1}")
        instead = f"the first {few.shape[1]} of {condition.shape[1]} units of the model's condition stand for them"
        return condition, few, [f"No --programmes: {instead}."]
    if model.vae is None:
        raise ValueError(
            f"{held_out.inputs.model} was trained on an embedding and takes no genes; leave out --programmes."
        )
    notes, found = [], {}
    z = model.vae.transform.apply(values, expression.genes, expression.units)
    for name, programme in read_programmes(path, loadings=False).items():
        columns, loading = genes_of_model(programme, name, model.vae, path)
        if len(columns) < len(programme):
            notes.append(f"{name}: {len(programme) - len(columns):,} of {len(programme):,} genes aren't the model's.")
        found[name] = programme_scores(z, columns, loading)
    return condition, pd.DataFrame(found, index), notes
