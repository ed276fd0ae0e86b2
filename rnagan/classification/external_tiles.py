"""Are tiles generated from another cohort's profiles known by a classifier that saw real tiles alone? (Figure 4D.)"""

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
from rnagan.classification.classifier import ResNetClassifier, Trained, probabilities, train_classifier
from rnagan.classification.cross_validation import first_weights, hold_out
from rnagan.classification.labelled_tiles import Labelled, choose_slides, read_tiles
from rnagan.cohort.filter import matching_rows
from rnagan.cohort.leakage import donor_digest, refuse_seen
from rnagan.cohort.table import read_cohort
from rnagan.config.classifier import ClassifierConfig
from rnagan.data.index import open_dataset
from rnagan.evaluation.external_profiles import match_tissues, told_tissues
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json, sha256_of, sha256_of_file, write_json
from rnagan.io.images import grid, save_png, synthetic_texts
from rnagan.io.tables import need_columns, read_table
from rnagan.reports.figures import confusion_figure
from rnagan.reports.pages import embedded, write_template
from rnagan.runtime import progress, rng


class Generated(NamedTuple):
    """Tiles (n, H, W, 3) uint8, and of each its `tissue` (ours), `profile`, and the profile's `far` and `missing`."""

    tiles: NDArray[np.uint8]
    about: pd.DataFrame


def choose_external(
    path: Path, model: RNAGAN, ours: list[str], tissue_map: Path | dict[str, str] | None, n: int, seed: int
) -> tuple[anndata.AnnData, pd.DataFrame]:
    """The profiles that `n` tiles a tissue are generated from, and `profile`, `tissue` (ours), `external` and `tiles`.

    Profiles are drawn without replacement first, one tile each; where a tissue has fewer than n, each gives as many as
    any other, or one more. Raises `ValueError` where a column is missing or no two tissues are shared.
    """
    adata = open_profiles(path)
    if "tissue" not in adata.obs:
        raise ValueError(f"{path} has no obs column tissue, so nobody knows what its tiles should show.")
    if not adata.obs_names.is_unique:
        twice = adata.obs_names[adata.obs_names.duplicated()][0]
        raise ValueError(f"{path} has the profile {twice} more than once; give each a name of its own.")
    theirs = adata.obs["tissue"].astype(str)
    if isinstance(tissue_map, Path):  # which may hold more tissues than this model and its tiles
        table = read_table(tissue_map)
        need_columns(list(table), ("external", "ours"), tissue_map)
        pairs = zip(table["external"], table["ours"], strict=True)
        tissue_map = {external: own for external, own in pairs if own in ours}
    shared = match_tissues(theirs.tolist(), ours, tissue_map)
    if len(set(shared.values())) < 2:
        known = ", ".join(sorted(set(shared.values())))
        raise ValueError(f"{path} shares one tissue with the model and its tiles ({known}); two are needed to tell.")
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


def generate_external(model: RNAGAN, adata: anndata.AnnData, rows: pd.DataFrame, seed: int) -> Generated:
    """Encode the chosen profiles and generate their tiles."""
    with warnings.catch_warnings():  # told as numbers
        warnings.simplefilter("ignore", UserWarning)
        model.encode(adata)
    tiles = []
    with progress.bar(int(rows["tiles"].sum()), "tile", "Generating") as bar:
        for latent, profile, count in zip(adata.obsm["X_rnagan"], rows["profile"], rows["tiles"], strict=True):
            tiles.append(model.generate_tiles(latent, int(count), seed, f"external/{profile}"))
            bar.update(int(count))
    told = {"far": "rnagan_far", "missing": "rnagan_missing_genes", "distance": "rnagan_distance"}
    about = rows.assign(**{name: adata.obs[column].to_numpy() for name, column in told.items()})
    return Generated(np.concatenate(tiles), about.loc[about.index.repeat(about["tiles"])].reset_index(drop=True))


ARTICLE = {"accuracy": 0.805, "f1": 0.797, "auc": 0.805}  # brain cortex and lung of GSE120795
SETS = {"real": "held-out real tiles", "generated": "tiles generated from the external cohort"}
_GRID_ROWS, _GRID_COLUMNS = 5, 20


def about_run(
    model: RNAGAN, chosen: dict[str, pd.DataFrame], generated: Generated, trained: Trained, config: ClassifierConfig
) -> dict[str, Any]:
    """Profiles and how far to trust them, real tiles and donors, and how training went."""
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
    return {
        "profiles": trust,
        "real": {
            name: {"tiles": int(rows["tiles"].sum()), "donors": int(rows["donor"].nunique())}
            for name, rows in chosen.items()
        },
        "training": {name: value for name, value in trained._asdict().items() if name != "network"},
        "model": model.digest,
        "settings": config.to_dict(),
        "rnagan": rnagan.__version__,
    }


def draw(out: Path, result: dict[str, Any], generated: Generated, model: RNAGAN, config: ClassifierConfig) -> None:
    """Write the grid of generated tiles, the confusion matrices and the page."""
    about = generated.about
    columns = min(_GRID_COLUMNS, int(about["tissue"].value_counts().min()))
    rows = []
    for tissue in result["classes"]:
        own = np.flatnonzero(about["tissue"] == tissue)
        own = own[: columns * min(_GRID_ROWS, len(own) // columns)]
        rows.append(generated.tiles[own].reshape(-1, columns, *generated.tiles.shape[1:]))
    texts = synthetic_texts(model.digest, f"{about['profile'].nunique()} external profiles", config.seed, model.mpp)
    save_png(out / "generated.png", grid(np.concatenate(rows)), texts)
    confusion_figure(
        out / "confusion.png",
        {SETS[name]: np.array(found["confusion"]) for name, found in result["found"].items()},
        result["classes"],
    )
    shown = ", then ".join(
        f"{len(part)} {'row' if len(part) == 1 else 'rows'} of {tissue}"
        for tissue, part in zip(result["classes"], rows, strict=True)
    )
    pictures = [
        (out / "generated.png", f"Generated from the external cohort's profiles: {shown} (article: figure 4D)."),
        (out / "confusion.png", "Confusion matrices of both sets."),
    ]
    write_template(out / "report.html", "external.html", pictures=embedded(pictures), result=result)


def told(result: dict[str, Any], out: Path) -> list[str]:
    """The result, line by line."""
    trust = result["profiles"]["all"]
    lines = [
        f"{trust['profiles']:,} profiles, of which {trust['far']:.0%} are unlike the training profiles; "
        f"{trust['missing_genes']:.0%} of the model's genes are missing."
    ]
    for name, found in result["found"].items():
        parts = [f"{m} {found[m]['value']:.3f} ({found[m]['low']:.3f} to {found[m]['high']:.3f})" for m in ARTICLE]
        lines.append(f"{SETS[name]}: {', '.join(parts)}")
    paper = ", ".join(f"{name} {value:.3f}" for name, value in ARTICLE.items())
    return [*lines, f"the article, brain cortex and lung of GSE120795: {paper}", f"{out / 'report.html'}"]


@dataclasses.dataclass(frozen=True)
class ExternalInputs:
    """Paths; `shards` may be a URL. `tissue_map`: a table external, ours, or `external=ours` for each tissue."""

    model: Path
    profiles: Path
    shards: Path | str
    cohort: Path
    tissue_map: tuple[str, ...] = ()


def evaluate_external(config: ClassifierConfig, inputs: ExternalInputs, out: Path, n: int = 100) -> list[str]:
    """Generate `n` tiles a tissue, train on real tiles of the model's training donors, test on held-out real tiles and
    on the generated ones; writes `out/generated.png`, `confusion.png`, `report.html` and, last, `result.json`, and
    returns what to tell the user. The same request is up to date.
    """
    given = told_tissues(inputs.tissue_map)
    if config.label != "tissue":
        raise ValueError(f"An external cohort is known by its tissues: label must be tissue, not {config.label!r}.")
    model = RNAGAN.from_pretrained(inputs.model)
    if model.vae is None:
        raise ValueError(f"{inputs.model} was trained in mode {model.config.mode} and takes no profiles.")
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    cohort = cohort[matching_rows(cohort, config.where)]
    pictured = sorted(set(model.tissues) & set(cohort.loc[cohort["slide"] != "", "tissue"]))
    adata, rows = choose_external(inputs.profiles, model, pictured, given, n, config.seed)
    classes = sorted(rows["tissue"].unique())
    cohort = cohort[cohort["tissue"].isin(classes)]
    train = cohort[(cohort["split"] == "train") & cohort["donor"].map(donor_digest).isin(model.train_donors)]
    test = cohort[cohort["split"] == "test"]
    refuse_seen(test["donor"], model.train_donors, "test", "the model", "the cohort table that it was trained with")
    chosen = {
        name: choose_slides(shards, part, "tissue", config.per_class, config.seed)
        for name, part in (("train", train), ("test", test))
    }
    asked = sha256_of(
        {
            "model": model.digest,
            "files": [sha256_of_file(inputs.profiles), shards.digest],
            "rows": [rows.to_dict("list"), *(part.to_dict("list") for part in chosen.values())],
            "settings": config.to_dict(),
            "version": rnagan.__version__,
        }
    )
    out = Path(out)
    if (out / "result.json").is_file() and (stored := read_json(out / "result.json")).get("asked") == asked:
        return told(stored, out)
    if config.threads:
        torch.set_num_threads(config.threads)
    resolution = config.resolution or model.config.resolution
    real = {name: read_tiles(shards, part, classes, resolution) for name, part in chosen.items()}
    generated = generate_external(model, adata, rows, config.seed)
    if generated.tiles.shape[1] != resolution:
        raise ValueError(f"The model generates {generated.tiles.shape[1]} px; leave resolution out, or set it to that.")
    trained = _train(config, real["train"], classes)
    result = {"asked": asked, "classes": classes, "n": n, "article": ARTICLE, "sets": SETS}
    result |= _scores(config, trained, real["test"], generated, classes)
    result |= about_run(model, chosen, generated, trained, config)
    draw(out, result, generated, model, config)
    write_json(out / "result.json", result)
    return told(result, out)


def _train(config: ClassifierConfig, data: Labelled, classes: list[str]) -> Trained:
    train, validation = data, None
    if config.validation_share:
        rows, stop_on = hold_out(data.labels, data.donors, config.validation_share, classes, config.seed)
        train, validation = data.part(rows), data.part(stop_on)
    network = ResNetClassifier(config, len(classes), first_weights(config.seed, 0))
    with progress.bar(config.epochs * len(train.labels), "img", "Classifier") as bar:
        return train_classifier(network, train, config, "external", validation, bar.update)


def _scores(
    config: ClassifierConfig, trained: Trained, test: Labelled, generated: Generated, classes: list[str]
) -> dict[str, Any]:
    """Scores with intervals of both sets: resampled are donors of real tiles, and profiles of generated ones."""
    labels = np.array([classes.index(tissue) for tissue in generated.about["tissue"]])
    sets = {
        "real": (test.tiles, test.labels, test.donors),
        "generated": (generated.tiles, labels, generated.about["profile"].to_numpy(str)),
    }
    found: dict[str, Any] = {}
    listed = []
    for name, (tiles, truth, people) in sets.items():
        outputs = probabilities(trained.network, tiles, config)
        found[name], of_set = _measured(truth, outputs, people, len(classes), config.seed), SETS[name]
        for measure in (*accuracy.MEASURES, "auc"):
            listed.append({"name": f"{measure}, {of_set}"} | found[name][measure])
    return {"scores": listed, "found": found}


def _measured(
    labels: NDArray[np.int64], outputs: NDArray[np.float64], people: NDArray[np.str_], classes: int, seed: int
) -> dict[str, Any]:
    names, unit = np.unique(people, return_inverse=True)
    of_units = accuracy.confusions(labels, outputs.argmax(axis=1), unit, classes)
    # People are drawn among those of the same tissues, so that none is ever missing.
    tissues = np.unique(of_units.sum(axis=2) > 0, axis=0, return_inverse=True)[1]
    counts = accuracy.resamples(tissues, seed)
    found: dict[str, Any] = {"tiles": len(labels), "people": len(names), "confusion": of_units.sum(axis=0).tolist()}
    for name, measure in accuracy.MEASURES.items():
        low, high = accuracy.interval(accuracy.overall(of_units, measure, counts))
        found[name] = {"value": float(accuracy.overall(of_units, measure)[0]), "low": low, "high": high}
    drawn = np.array([accuracy.auc(labels, outputs, drawn[unit]) for drawn in counts[:500]])
    low, high = accuracy.interval(drawn)
    return found | {"auc": {"value": accuracy.auc(labels, outputs), "low": low, "high": high}}
