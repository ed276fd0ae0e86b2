"""Evaluate a β-VAE on held-out profiles, beside PCA and raw Z scores: tables, pictures, a summary and a page."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import model_folder
from rnagan.cohort.leakage import refuse_seen
from rnagan.cohort.table import claim_of
from rnagan.evaluation.external_profiles import accuracy_by_tissue, call_tissues, match_tissues, tissue_imbalance
from rnagan.evaluation.missing_genes import Gap, cost_of_gaps, random_gaps, real_gap
from rnagan.evaluation.reconstruction import (
    NEIGHBOURS,
    PCAModel,
    errors,
    fit_pca,
    knn_accuracy,
    per_gene,
    rmse_per_profile,
)
from rnagan.evaluation.tissue_spaces import distances, raw_z_scores, spaces_of
from rnagan.evaluation.vae_maps import choose_pair, generated_and_shifted, write_maps
from rnagan.evaluation.vae_report import PAGE, PICTURES, write_report
from rnagan.expression.h5ad import Expression, read_expression
from rnagan.io.cells import safe_table
from rnagan.io.claim import stating, with_claim
from rnagan.io.files import atomic_path, sha256_of_file, write_json
from rnagan.io.provenance import KEY, asked, read_current
from rnagan.latent.profiles import (
    Choice,
    Profiles,
    gene_names,
    in_genes_of,
    load_any_vae,
    profiles_of_model,
    vae_folder,
)
from rnagan.models.trained_vae import VAEModel
from rnagan.reports import vae_figures
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

RESULT = "summary.json"
TABLES = ("rmse_per_tissue", "rmse_per_profile", "genes", "external", "external_samples", "missing_genes")


@dataclasses.dataclass(frozen=True)
class VAEEvaluationInputs:
    """Paths. `gene_lists`: genes that other cohorts have (.h5ad, or a list), for the cost of missing ones."""

    vae: Path
    expression: Path
    external: Path | None = None
    tissue_map: Path | None = None
    beside: Path | None = None
    gene_lists: tuple[Path, ...] = ()

    def protocol(self, **settings: Any) -> dict[str, Any]:
        """What decides the figures of the VAE's evaluation: digests of the files and of the other VAE, the settings.

        Raises `FileNotFoundError` where a model or a file isn't there.
        """
        vae_folder(self.vae)
        files = {"expression": self.expression, "external": self.external, "tissue_map": self.tissue_map}
        return {
            **{name: None if path is None else sha256_of_file(path) for name, path in files.items()},
            "gene_lists": [sha256_of_file(path) for path in self.gene_lists],
            "beside": None if self.beside is None else sha256_of_file(vae_folder(self.beside) / "model.json"),
            **settings,
        }


class Encoded(NamedTuple):
    """Complete profiles `x` (samples, the model's genes), their Z scores, latents and tissues."""

    x: NDArray[np.float32]
    z: NDArray[np.float32]
    latents: NDArray[np.float32]
    far: NDArray[np.bool_]
    obs: pd.DataFrame

    @property
    def tissues(self) -> NDArray[np.str_]:
        return self.obs["tissue"].to_numpy().astype(str)


def evaluate_vae(
    inputs: VAEEvaluationInputs,
    out: Path,
    split: str = "test",
    pair: tuple[str, str] | None = None,
    missing_genes: bool = False,
    seed: int = 0,
    device: str | torch.device = AUTO,
) -> dict[str, Any]:
    """Write TABLES (.csv) and PICTURES (.png), report.html and, last, summary.json, which is returned.

    `pair`: the tissues between which profiles are shifted; by default brain and lung as in the article where both are
    there, else the two with most profiles. `missing_genes`: measure what missing genes cost, too; for that `beside` and
    `gene_lists`. The same request is up to date.
    """
    if (inputs.beside or inputs.gene_lists) and not missing_genes:
        raise ValueError("--beside and --present-in say something of missing genes alone; add --missing-genes.")
    if inputs.tissue_map and not inputs.external:
        raise ValueError("--tissue-map names tissues of an external cohort; add --external.")
    protocol = inputs.protocol(split=split, pair=pair, missing_genes=missing_genes, seed=seed)
    request = asked(vae=vae_folder(inputs.vae) / "model.json", protocol=protocol)
    result = read_current(out / RESULT, request)
    if result is None:
        expression = read_expression(inputs.expression)
        with stating(claim_of(expression.split_by)):
            result = {KEY: request} | _evaluate(inputs, expression, out, split, pair, missing_genes, seed, device)
            write_report(out, result)
        write_json(out / RESULT, result)
    pictures = [out / f"{name}.png" for name in PICTURES]
    claim = claim_of(result.get("split_by", "donor"))
    record_evaluation(out, "vae", inputs.vae, scores_of(result), protocol, out / PAGE, pictures, claim)
    return result


def _evaluate(
    inputs: VAEEvaluationInputs,
    expression: Expression,
    out: Path,
    split: str,
    pair: tuple[str, str] | None,
    missing_genes: bool,
    seed: int,
    device: str | torch.device,
) -> dict[str, Any]:
    """Check all inputs, evaluate, write tables and pictures, and return the result."""
    model = load_any_vae(inputs.vae, device)
    model.warn_of_pooling(expression.pooled, str(inputs.expression))
    train, test = (_encoded(model, expression, name, inputs.expression) for name in ("train", split))
    if split != "train" and expression.split_by == "donor":
        known = model.record.get("train_donors", ())
        refuse_seen(test.obs["donor"], known, split, "this model", "the expression file that it was trained on")
    pair = choose_pair(test.tissues, pair)
    external = None if inputs.external is None else profiles_of_model(Choice(inputs.external), model)
    shared: dict[str, str] = {}
    if external is not None:
        shared = match_tissues(external.obs["tissue"].tolist(), sorted(set(train.tissues)), inputs.tissue_map)
    beside = None if inputs.beside is None else load_any_vae(inputs.beside, device)
    gaps = _gaps(inputs, model, external, seed) if missing_genes else []
    if beside is not None and set(beside.transform.genes) != set(model.transform.genes):
        raise ValueError(f"{inputs.beside} was trained on other genes than {inputs.vae}; train both on the same file.")
    for name in (RESULT, PAGE, *(f"{t}.csv" for t in TABLES), *(f"{p}.png" for p in PICTURES)):
        (out / name).unlink(missing_ok=True)  # of other settings: no longer true

    pca, raw = fit_pca(train.z, len(model.space.active)), raw_z_scores(model, train.x)
    known = spaces_of(model, pca, train.z, train.latents, raw(train.x))
    points = spaces_of(model, pca, test.z, test.latents, raw(test.x))
    symbols = dict(zip(expression.genes, expression.symbols, strict=True))
    result: dict[str, Any] = {
        "model": str(inputs.vae),
        "expression": str(inputs.expression),
        "split": split,
        "profiles": len(test.x),
        "training_profiles": len(train.x),
        "tissues": sorted(set(test.tissues)),
        "genes": int((~model.transform.constant).sum()),
        "units": model.transform.units,
        "latent": len(model.space.mean),
        "active_units": len(model.space.active),
        "training_metrics": model.record.get("metrics", {}),
    }
    claim = claim_of(expression.split_by)
    result |= {} if claim is None else claim.as_json()
    result |= _reconstruction(out, model, test, pca, symbols) | {
        "neighbours": NEIGHBOURS,
        "neighbours_by": distances(model, known),
        "tissue_knn": {name: knn_accuracy(known[name], train.tissues, points[name], test.tissues) for name in known},
        "far": float(test.far.mean()),
    }
    made = generated_and_shifted(model, train.latents, train.tissues, test.z, test.latents, test.tissues, pair, seed)
    result["generated"], result["shifted"] = made.generated_numbers, made.shifted_numbers
    write_maps(out, model, test.z, test.tissues, model.decode(test.latents), made, seed)
    if external is not None:
        own = None if external.converted else raw(external.values)
        result["external"] = _external(out, model, pca, external, shared, own, known, train.tissues)
    if missing_genes:
        result["missing_genes"] = _missing(out, inputs, model, beside, train, test, expression, gaps)
    return result


def scores_of(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of an evaluation by flat names: errors of each model, tissues called right in each space."""
    found = {
        f"reconstruction/{model}/{name}": value
        for model, errors_of in result["reconstruction"].items()
        for name, value in errors_of.items()
    }
    found |= {f"tissue_knn/{space}": value for space, value in result["tissue_knn"].items()}
    found |= {"active_units": result["active_units"], "far": result["far"]}
    external = result.get("external", {})
    found |= {f"external/tissue_knn/{space}": value for space, value in external.get("tissue_knn", {}).items()}
    return {name: {"value": float(value)} for name, value in found.items() if value is not None}


def _encoded(model: VAEModel, expression: Expression, split: str, path: Path) -> Encoded:
    rows = (expression.obs["split"] == split) & expression.obs["tissue"].isin(model.space.tissues)
    if not rows.any():
        raise ValueError(f"{path} has no profile of {', '.join(model.space.tissues)} in split {split}.")
    if expression.units not in model.transform.accepts:
        raise ValueError(f"{path} is in {expression.units} and the model was trained on {model.transform.units}.")
    x = in_genes_of(model, expression.values[rows.to_numpy()], expression.genes)
    lacking = int(np.isnan(x).any(axis=0).sum())
    if lacking:
        raise ValueError(
            f"{path} lacks {lacking:,} of the model's {x.shape[1]:,} genes, so their reconstruction can't be "
            "evaluated; give it as --external, and the file that the model was trained on as --expression."
        )
    z = model.transform.apply(x, model.transform.genes, model.transform.units)
    encoding = model.encode(x, model.transform.genes, model.transform.units)
    return Encoded(x, z, encoding.latents, encoding.far, expression.obs[rows])


def _reconstruction(
    out: Path, model: VAEModel, test: Encoded, pca: PCAModel, symbols: dict[str, str]
) -> dict[str, Any]:
    transform = model.transform
    z_hat, by_pca = model.decode(test.latents), pca.reconstruct(test.z)
    per_profile = test.obs.assign(
        rmse=rmse_per_profile(test.z, z_hat, transform), pca_rmse=rmse_per_profile(test.z, by_pca, transform)
    )
    groups = per_profile.groupby("tissue")
    rows = groups["rmse"].describe().rename(columns={"count": "profiles", "50%": "median"})
    rows = rows.assign(profiles=rows["profiles"].astype(int), pca_median=groups["pca_rmse"].median())
    genes = pd.DataFrame({"gene": transform.genes, "symbol": [symbols.get(g, "") for g in transform.genes]})
    genes = genes.join(per_gene(test.z, z_hat)).join(per_gene(test.z, by_pca).add_prefix("pca_"))
    genes = genes[~transform.constant]
    _table(out, "rmse_per_profile", per_profile.rename_axis("sample").reset_index())
    _table(out, "rmse_per_tissue", rows.sort_values("median").reset_index())
    _table(out, "genes", genes)
    vae_figures.rmse_by_tissue(out / "rmse_per_tissue.png", per_profile)
    vae_figures.gene_histograms(out / "genes.png", genes)
    mean = np.zeros_like(test.z)
    return {
        "reconstruction": {
            name: errors(test.z, rebuilt, transform) | (_medians(genes, prefix) if prefix is not None else {})
            for name, rebuilt, prefix in (("vae", z_hat, ""), ("pca", by_pca, "pca_"), ("mean", mean, None))
        },
        "pca_components": len(pca.components),
    }


def _medians(genes: pd.DataFrame, prefix: str) -> dict[str, float | None]:
    return {name: _number(genes[f"{prefix}{name}"].median()) for name in ("pearson", "r2")}


def _external(
    out: Path,
    model: VAEModel,
    pca: PCAModel,
    external: Profiles,
    shared: dict[str, str],
    raw: NDArray[np.float32] | None,
    known: dict[str, NDArray],
    known_tissues: NDArray[np.str_],
) -> dict[str, Any]:
    """`raw`: Z scores of the external profiles, None where they can't be had. `known`: the training profiles in each
    space, with their tissues."""
    genes, transform = model.transform.genes, model.transform
    encoding = model.encode(external.values, genes, transform.units)
    z = transform.apply(external.values, genes, transform.units)
    theirs = external.obs["tissue"].to_numpy().astype(str)
    both = np.isin(theirs, list(shared))
    truth = np.array([shared[name] for name in theirs[both]])
    points = spaces_of(model, pca, z[both], encoding.latents[both], None if raw is None else raw[both])
    calls = call_tissues({name: known[name] for name in points}, known_tissues, points)
    table = accuracy_by_tissue(calls, truth)
    distance = pd.Series(encoding.distance[both]).groupby(truth).median()
    table["distance"] = [*distance, float(np.median(encoding.distance[both])), np.nan]
    far = pd.Series(encoding.far[both]).groupby(truth).mean()
    table["far"] = [*far, float(encoding.far[both].mean()), np.nan]
    trust = {name: getattr(encoding, name) for name in ("distance", "residual", "far", "missing")}
    samples = external.obs[["tissue"]].assign(**trust, ours=[shared.get(name, "") for name in theirs])
    named = calls.add_prefix("called_by_").set_index(external.obs.index[both])
    _table(out, "external", table)
    _table(out, "external_samples", samples.join(named).rename_axis("sample").reset_index())
    vae_figures.external_accuracy(out / "external.png", table)
    spaces = list(calls)
    return {
        "samples": len(theirs),
        "samples_of_shared_tissues": int(both.sum()),
        "tissues": shared,
        "imbalance": tissue_imbalance(theirs.tolist(), known_tissues.tolist()),
        "neighbours_by": distances(model, spaces),
        "tissue_knn": table.set_index("tissue").loc["all samples", spaces].astype(float).to_dict(),
        "tissue_knn_mean_of_tissues": table.set_index("tissue").loc["mean of tissues", spaces].astype(float).to_dict(),
        "distance": float(np.median(encoding.distance)),
        "residual": float(np.median(encoding.residual)),
        "far": float(encoding.far.mean()),
        "missing_genes": float(encoding.missing.mean()),
    }


def _gaps(inputs: VAEEvaluationInputs, model: VAEModel, external: Profiles | None, seed: int) -> list[Gap]:
    genes = model.transform.genes
    gaps = random_gaps(len(genes), seed=seed)
    if external is not None and inputs.external is not None:
        hidden = np.asarray(np.isnan(external.values).all(axis=0))
        if hidden.any():
            gaps.append(Gap(inputs.external.stem, float("nan"), 0, hidden))
    return [*gaps, *(real_gap(path.stem, genes, gene_names(path)) for path in inputs.gene_lists)]


def _missing(
    out: Path,
    inputs: VAEEvaluationInputs,
    model: VAEModel,
    beside: VAEModel | None,
    train: Encoded,
    test: Encoded,
    expression: Expression,
    gaps: list[Gap],
) -> list[dict[str, Any]]:
    label, other = _label(inputs.vae), None if inputs.beside is None else _label(inputs.beside)
    genes, parts = model.transform.genes, []
    rows = expression.obs.index.get_indexer(train.obs.index)
    for name, one in ((label, model), (other if other != label else f"{other}, beside", beside)):
        if one is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            known = one.encode(expression.values[rows], expression.genes, expression.units).latents
        costs = cost_of_gaps(one, test.x, test.tissues, known, train.tissues, genes, gaps)
        parts.append(costs.assign(model=name, neighbours_by=one.space.neighbours_by))
    table = pd.concat(parts, ignore_index=True)
    _table(out, "missing_genes", table)
    vae_figures.missing_gene_curves(out / "missing_genes.png", table)
    by = ["model", "gap", "neighbours_by"]
    means = table.groupby(by, sort=False).mean(numeric_only=True).drop(columns="repeat").reset_index()
    return [{name: _number(value) for name, value in row.items()} for row in means.to_dict("records")]


def _label(folder: Path) -> str:
    found = model_folder(folder).resolve()
    return found.parent.name if found.name == "model" else found.name


def _number(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and np.isnan(value) else value


def _table(out: Path, name: str, table: pd.DataFrame) -> None:
    with atomic_path(out / f"{name}.csv") as temporary:
        safe_table(with_claim(table)).to_csv(temporary, index=False, float_format="%.6g")
