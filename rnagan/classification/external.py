"""Are tiles painted from another cohort's profiles known by a classifier that saw real tiles alone? (Figure 4D.)"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rnagan
from rnagan import progress
from rnagan.classification import scores
from rnagan.classification.config import ClassifierConfig
from rnagan.classification.cross_validation import first_weights
from rnagan.classification.external_report import ARTICLE, SETS, about_run, draw, told
from rnagan.classification.folds import hold_out
from rnagan.classification.network import ResNetClassifier
from rnagan.classification.painted import Painted, choose_external, paint_external
from rnagan.classification.tiles import Labelled, choose_slides, read_tiles
from rnagan.classification.trainer import Trained, probabilities, train_classifier
from rnagan.cohort.donors import donor_digest, refuse_seen
from rnagan.cohort.table import read_cohort
from rnagan.cohort.where import matching_rows
from rnagan.data.index import open_dataset
from rnagan.evaluation.external import told_tissues
from rnagan.files import read_json, sha256_of, sha256_of_file, write_json
from rnagan.pretrained import RNAGAN


@dataclasses.dataclass(frozen=True)
class ExternalInputs:
    """Paths; `shards` may be a URL. `tissue_map`: a table external, ours, or `external=ours` for each tissue."""

    model: Path
    profiles: Path
    shards: Path | str
    cohort: Path
    tissue_map: tuple[str, ...] = ()


def evaluate_external(config: ClassifierConfig, inputs: ExternalInputs, out: Path, n: int = 100) -> list[str]:
    """Paint `n` tiles a tissue, train on real tiles of the model's training donors, test on held-out real tiles and on
    the painted ones; writes `out/painted.png`, `confusion.png`, `report.html` and, last, `result.json`, and returns
    what to tell the user. The same request is up to date.
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
    painted = paint_external(model, adata, rows, config.seed)
    if painted.tiles.shape[1] != resolution:
        raise ValueError(f"The model paints {painted.tiles.shape[1]} px; leave resolution out, or set it to that.")
    trained = _train(config, real["train"], classes)
    result = {"asked": asked, "classes": classes, "n": n, "article": ARTICLE, "sets": SETS}
    result |= _scores(config, trained, real["test"], painted, classes)
    result |= about_run(model, chosen, painted, trained, config)
    draw(out, result, painted, model, config)
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
    config: ClassifierConfig, trained: Trained, test: Labelled, painted: Painted, classes: list[str]
) -> dict[str, Any]:
    """Scores with intervals of both sets: resampled are donors of real tiles, and profiles of painted ones."""
    labels = np.array([classes.index(tissue) for tissue in painted.about["tissue"]])
    sets = {
        "real": (test.tiles, test.labels, test.donors),
        "painted": (painted.tiles, labels, painted.about["profile"].to_numpy(str)),
    }
    found: dict[str, Any] = {}
    listed = []
    for name, (tiles, truth, people) in sets.items():
        outputs = probabilities(trained.network, tiles, config)
        found[name], of_set = _measured(truth, outputs, people, len(classes), config.seed), SETS[name]
        for measure in (*scores.MEASURES, "auc"):
            listed.append({"name": f"{measure}, {of_set}"} | found[name][measure])
    return {"scores": listed, "found": found}


def _measured(
    labels: NDArray[np.int64], outputs: NDArray[np.float64], people: NDArray[np.str_], classes: int, seed: int
) -> dict[str, Any]:
    names, unit = np.unique(people, return_inverse=True)
    of_units = scores.confusions(labels, outputs.argmax(axis=1), unit, classes)
    # People are drawn among those of the same tissues, so that none is ever missing.
    tissues = np.unique(of_units.sum(axis=2) > 0, axis=0, return_inverse=True)[1]
    counts = scores.resamples(tissues, seed)
    found: dict[str, Any] = {"tiles": len(labels), "people": len(names), "confusion": of_units.sum(axis=0).tolist()}
    for name, measure in scores.MEASURES.items():
        low, high = scores.interval(scores.overall(of_units, measure, counts))
        found[name] = {"value": float(scores.overall(of_units, measure)[0]), "low": low, "high": high}
    drawn = np.array([scores.auc(labels, outputs, drawn[unit]) for drawn in counts[:500]])
    low, high = scores.interval(drawn)
    return found | {"auc": {"value": scores.auc(labels, outputs), "low": low, "high": high}}
