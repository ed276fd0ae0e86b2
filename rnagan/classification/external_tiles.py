"""Does a classifier of real tiles recognise tiles that were generated from another cohort's profiles? (Figure 4D.)"""

import dataclasses
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import rnagan
from rnagan.api import RNAGAN
from rnagan.classification import accuracy
from rnagan.classification.classifier import Trained, from_scratch, predict_probabilities
from rnagan.classification.cross_validation import fit, result_settings
from rnagan.classification.labelled_tiles import Labelled, choose_slides, read_tiles
from rnagan.cohort.filter import matching_rows
from rnagan.cohort.leakage import are_of_seen, everyone, refuse_seen
from rnagan.cohort.table import claim_of, read_cohort, split_by
from rnagan.config.classifier import ClassifierConfig
from rnagan.data.index import open_dataset
from rnagan.evaluation.external_profiles import match_tissues, read_tissue_map, read_tissue_table
from rnagan.evaluation.stats import interval
from rnagan.evaluation.test_set import check_sizes
from rnagan.io import provenance
from rnagan.io.claim import stating
from rnagan.io.files import sha256_of, sha256_of_file, write_json
from rnagan.io.images import grid, save_png, synthetic_texts
from rnagan.io.tables import need_columns
from rnagan.latent.profiles import Choice, choose_profiles
from rnagan.reports.figures import confusion_figure
from rnagan.reports.pages import embedded, write_template
from rnagan.runtime import progress, rng
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

ARTICLE = {"accuracy": 0.805, "f1": 0.797, "auc": 0.805}  # brain cortex and lung of GSE120795
SETS = {"real": "held-out real tiles", "generated": "tiles generated from the external cohort"}
GENERATED, CONFUSION = "generated.png", "confusion.png"
_GRID_ROWS, _GRID_COLUMNS = 5, 20  # of a tissue
_AUC_DRAWS = 500


@dataclasses.dataclass(frozen=True)
class ExternalInputs:
    """Paths; `shards` may be a URL. `tissue_map`: a table external, ours, or `external=ours` for each tissue."""

    model: Path
    profiles: Path
    shards: Path | str
    cohort: Path
    tissue_map: tuple[str, ...] = ()


def evaluate_external(
    config: ClassifierConfig, inputs: ExternalInputs, out: Path, n: int = 100, device: str | torch.device = AUTO
) -> list[str]:
    """Generate `n` tiles a tissue and classify them; returns the result as lines for the terminal.

    The classifier is trained on real tiles of the model's training donors, and tested on real tiles of held-out donors
    and on the generated tiles. Writes `generated.png`, `confusion.png`, `report.html` and, last, `result.json` into
    `out`; a result of the same request is up to date.
    """
    tissue_map = read_tissue_map(inputs.tissue_map)
    if config.label != "tissue":
        raise ValueError(
            f"Of an external cohort only tissues are classified: label must be tissue, not {config.label!r}."
        )
    model = RNAGAN.from_pretrained(inputs.model, device)
    if model.encoder is None:
        raise ValueError(f"{inputs.model} was trained in mode {model.config.mode} and takes no profiles.")
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    check_sizes([model], shards)
    cohort = cohort[matching_rows(cohort, config.where)]
    with_tiles = sorted(set(model.tissues) & set(cohort.loc[cohort["slide"] != "", "tissue"]))
    adata, profiles = choose_external(inputs.profiles, model.units, with_tiles, tissue_map, n, config.seed)
    classes = sorted(profiles["tissue"].unique())
    slides = {
        name: choose_slides(shards, part, "tissue", config.per_class, config.seed)
        for name, part in _train_and_test(cohort[cohort["tissue"].isin(classes)], model).items()
    }
    claim = claim_of(split_by(cohort))
    resolution = config.resolution or model.config.resolution
    if resolution != model.config.resolution:
        raise ValueError(f"The model generates {model.config.resolution} px; leave resolution out, or set it to that.")
    protocol = {
        "profiles": sha256_of([sha256_of_file(inputs.profiles), profiles.to_dict("list")]),
        "tiles": sha256_of([shards.digest, *(rows.to_dict("list") for rows in slides.values())]),
        "tiles_per_tissue": n,
        "settings": result_settings(config),
    }
    request = provenance.asked(model=model.digest, protocol=protocol)
    result = provenance.read_current(out / "result.json", request)
    if result is None:
        if config.threads:
            torch.set_num_threads(config.threads)
        real = {name: read_tiles(shards, rows, classes, resolution) for name, rows in slides.items()}
        generated = generate_external(model, adata, profiles, config.seed)
        with progress.bar(config.epochs * len(real["train"].labels), "img", "Classifier") as bar:
            trained = fit(real["train"], classes, config, 0, "external", from_scratch(), bar.update, device)
        result = {provenance.KEY: request, "classes": classes, "n": n, "article": ARTICLE, "sets": SETS}
        result |= _scores(config, trained, real["test"], generated, classes)
        result |= _about(model, slides, generated, trained, config)
        result |= {} if claim is None else claim.as_json()
        with stating(claim):
            _write_report(out, result, generated, model, config)
        write_json(out / "result.json", result)
    scores = {f"{of}/{accuracy.RECORDED[m]}": found[m] for of, found in result["found"].items() for m in ARTICLE}
    pictures = [out / name for name in (GENERATED, CONFUSION)]
    record_evaluation(out, "external_tiles", inputs.model, scores, protocol, out / "report.html", pictures, claim)
    return _result_lines(result, out)


def _train_and_test(cohort: pd.DataFrame, model: RNAGAN) -> dict[str, pd.DataFrame]:
    """Rows of the model's training donors, and of the test split. Refuses test donors that the model has seen."""
    test = cohort[cohort["split"] == "test"]
    refuse_seen(everyone(test), model.train_donors, "test", "the model", "the cohort table that it was trained with")
    train = cohort[cohort["split"] == "train"]
    return {"train": train[are_of_seen(train, model.train_donors)], "test": test}


def choose_external(
    path: Path,
    units: str | tuple[str, ...],
    ours: list[str],
    tissue_map: Path | dict[str, str] | None,
    n: int,
    seed: int,
) -> tuple[anndata.AnnData, pd.DataFrame]:
    """Choose the profiles that `n` tiles a tissue are generated from, of the tissues that are also among `ours`.

    `units`: those that the model takes. Returns the profiles, and one row for each: `profile`, `tissue` (our name),
    `external` (theirs) and `tiles`, how many to generate. Profiles are drawn without replacement; a tissue with fewer
    than n gives several tiles a profile, as evenly as can be. Raises `ValueError` where a column is missing or fewer
    than two tissues are shared, and as `choose_profiles`.
    """
    adata, _ = choose_profiles(Choice(path), units)
    need_columns(list(adata.obs), ("tissue",), f"{path} (obs)")
    theirs = adata.obs["tissue"].astype(str)
    if isinstance(tissue_map, Path):  # it may list tissues that this model or its tiles don't have
        tissue_map = {external: own for external, own in read_tissue_table(tissue_map).items() if own in ours}
    shared = match_tissues(theirs.tolist(), ours, tissue_map)
    if len(set(shared.values())) < 2:
        known = ", ".join(sorted(set(shared.values())))
        raise ValueError(f"{path} shares one tissue with the model and its tiles ({known}); two are needed.")
    parts = []
    for tissue in sorted(set(shared.values())):
        names = sorted(theirs.index[theirs.map(shared) == tissue])
        drawn = rng.generator(seed, f"external profiles/{tissue}").permutation(names)[:n]
        counts = np.full(len(drawn), n // len(drawn))
        counts[: n % len(drawn)] += 1
        parts.append(pd.DataFrame({"profile": drawn, "tissue": tissue, "tiles": counts}))
    rows = pd.concat(parts, ignore_index=True)
    rows["external"] = theirs.loc[rows["profile"]].to_numpy()
    return adata[rows["profile"].tolist()].copy(), rows


class Generated(NamedTuple):
    """Tiles (n, H, W, 3) uint8, and one row for each: `tissue` (our name), `profile`, and the profile's `far`,
    `missing` (share of the model's genes) and `distance`."""

    tiles: NDArray[np.uint8]
    about: pd.DataFrame


def generate_external(model: RNAGAN, adata: anndata.AnnData, rows: pd.DataFrame, seed: int) -> Generated:
    """Encode the chosen profiles, and generate `tiles` tiles of each row's `profile`."""
    with warnings.catch_warnings():  # `about` has the same as numbers
        warnings.simplefilter("ignore", UserWarning)
        model.encode(adata)
    latents, names = adata.obsm["X_rnagan"], [f"external/{profile}" for profile in rows["profile"]]
    parts = []
    with progress.bar(int(rows["tiles"].sum()), "tile", "Generating") as bar:
        for tiles in model.generate_each(latents, names, rows["tiles"].tolist(), seed):
            parts.append(tiles)
            bar.update(len(tiles))
    columns = {"far": "rnagan_far", "missing": "rnagan_missing_genes", "distance": "rnagan_distance"}
    about = rows.assign(**{name: adata.obs[column].to_numpy() for name, column in columns.items()})
    return Generated(np.concatenate(parts), about.loc[about.index.repeat(about["tiles"])].reset_index(drop=True))


def _scores(
    config: ClassifierConfig, trained: Trained, test: Labelled, generated: Generated, classes: list[str]
) -> dict[str, Any]:
    """Scores of both sets with 95% intervals, which resample the donors of real tiles, or the profiles of generated
    ones: `found` by set, and the list `scores` of all of them."""
    labels = np.array([classes.index(tissue) for tissue in generated.about["tissue"]])
    sets = {
        "real": (test.tiles, test.labels, test.donors),
        "generated": (generated.tiles, labels, generated.about["profile"].to_numpy(str)),
    }
    found: dict[str, Any] = {}
    scores = []
    for name, (tiles, truth, units) in sets.items():
        probabilities = predict_probabilities(trained.network, tiles, config)
        found[name] = _score_set(truth, probabilities, units, len(classes), config.seed)
        scores += [{"name": f"{measure}, {SETS[name]}"} | found[name][measure] for measure in ARTICLE]
    return {"scores": scores, "found": found}


def _score_set(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], units: NDArray[np.str_], classes: int, seed: int
) -> dict[str, Any]:
    """Accuracy, F1 and AUC of one set of tiles. `units` (tiles,): the donor or profile of each."""
    names, unit = np.unique(units, return_inverse=True)
    matrices = accuracy.confusions(labels, probabilities.argmax(axis=1), unit, classes)
    # Units are drawn among those of the same tissues, so no tissue is missing from a resample.
    tissues = np.unique(matrices.sum(axis=2) > 0, axis=0, return_inverse=True)[1]
    counts = accuracy.resamples(tissues, seed)
    found: dict[str, Any] = {"tiles": len(labels), "people": len(names), "confusion": matrices.sum(axis=0).tolist()}
    for name, measure in accuracy.MEASURES.items():
        low, high = interval(accuracy.pooled(matrices, measure, counts))
        found[name] = {"value": float(accuracy.pooled(matrices, measure)[0]), "low": low, "high": high}
    resampled = np.array([accuracy.auc(labels, probabilities, drawn[unit]) for drawn in counts[:_AUC_DRAWS]])
    low, high = interval(resampled)
    return found | {"auc": {"value": accuracy.auc(labels, probabilities), "low": low, "high": high}}


def _about(
    model: RNAGAN, slides: dict[str, pd.DataFrame], generated: Generated, trained: Trained, config: ClassifierConfig
) -> dict[str, Any]:
    """The profiles and how far to trust them, counts of real tiles and donors, and the course of training."""
    profiles = generated.about.drop_duplicates("profile")
    trust = {
        tissue: {
            "profiles": len(own),
            "external": sorted(own["external"].unique()),
            "far": float(own["far"].mean()),
            "missing_genes": float(own["missing"].mean()),
            "distance": float(own["distance"].median()),
        }
        for tissue, own in (*profiles.groupby("tissue"), ("all", profiles))
    }
    real = {
        name: {"tiles": int(rows["tiles"].sum()), "donors": int(rows["donor"].nunique())}
        for name, rows in slides.items()
    }
    about = {"model": model.digest, "settings": config.to_dict(), "rnagan": rnagan.__version__}
    return {"profiles": trust, "real": real, "training": trained.record()} | about


def _write_report(
    out: Path, result: dict[str, Any], generated: Generated, model: RNAGAN, config: ClassifierConfig
) -> None:
    """Draw the grid of generated tiles and the confusion matrices, and write the page."""
    about = generated.about
    columns = min(_GRID_COLUMNS, int(about["tissue"].value_counts().min()))
    rows = {}
    for tissue in result["classes"]:
        own = np.flatnonzero(about["tissue"] == tissue)
        own = own[: columns * min(_GRID_ROWS, len(own) // columns)]
        rows[tissue] = generated.tiles[own].reshape(-1, columns, *generated.tiles.shape[1:])
    texts = synthetic_texts(model.digest, f"{about['profile'].nunique()} external profiles", config.seed, model.mpp)
    save_png(out / GENERATED, grid(np.concatenate(list(rows.values()))), texts)
    matrices = {SETS[name]: np.array(found["confusion"]) for name, found in result["found"].items()}
    confusion_figure(out / CONFUSION, matrices, result["classes"])
    shown = ", then ".join(f"{len(own)} {'row' if len(own) == 1 else 'rows'} of {name}" for name, own in rows.items())
    pictures = [
        (out / GENERATED, f"Generated from the external cohort's profiles: {shown} (article: figure 4D)."),
        (out / CONFUSION, "Confusion matrices of both sets."),
    ]
    write_template(out / "report.html", "external.html", pictures=embedded(pictures), result=result)


def _result_lines(result: dict[str, Any], out: Path) -> list[str]:
    trust = result["profiles"]["all"]
    lines = [
        f"{trust['profiles']:,} profiles, of which {trust['far']:.0%} are unlike the training profiles; "
        f"{trust['missing_genes']:.0%} of the model's genes are missing."
    ]
    for name, found in result["found"].items():
        parts = [f"{m} {found[m]['value']:.3f} ({found[m]['low']:.3f} to {found[m]['high']:.3f})" for m in ARTICLE]
        lines.append(f"{SETS[name]}: {', '.join(parts)}")
    article = ", ".join(f"{name} {value:.3f}" for name, value in ARTICLE.items())
    return [*lines, f"the article, brain cortex and lung of GSE120795: {article}", f"{out / 'report.html'}"]
