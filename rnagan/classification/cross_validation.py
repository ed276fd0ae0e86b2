"""Folds by donor, and one start through all of them; a finished fold is kept."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

import rnagan
from rnagan.classification.classifier import ResNetClassifier, Start, probabilities, train_classifier
from rnagan.classification.labelled_tiles import Labelled
from rnagan.config.classifier import ClassifierConfig
from rnagan.io.files import read_json, sha256_of, write_json
from rnagan.runtime import rng

Rows = NDArray[np.intp]


def make_folds(
    labels: NDArray[np.int64], donors: NDArray[np.str_], count: int, classes: list[str], seed: int
) -> list[tuple[Rows, Rows]]:
    """Training and test rows of each of `count` folds; no donor is in both (scikit-learn's StratifiedGroupKFold).

    Raises `ValueError` where a class has fewer donors than there are folds, or a part of a fold lacks a class.
    """
    for number, name in enumerate(classes):
        found = len(set(donors[labels == number]))
        if found < count:
            raise ValueError(f"Class {name} has {found} donors, too few for {count} parts; ask for fewer folds.")
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of fewer tiles than folds: it can't be, there are the donors
        folds = list(splitter.split(labels, labels, donors))
    for train, test in folds:
        if any(len(set(labels[part])) < len(classes) for part in (train, test)):
            raise ValueError(
                f"The donors can't be dealt into {count} parts that hold every class; ask for fewer folds."
            )
    return folds


def hold_out(
    labels: NDArray[np.int64], donors: NDArray[np.str_], share: float, classes: list[str], seed: int
) -> tuple[Rows, Rows]:
    """Rows to train on and rows of about `share` of the donors to stop early on: the first of 1/share folds."""
    return make_folds(labels, donors, max(2, round(1 / share)), classes, seed)[0]


class OutOfFold(NamedTuple):
    """Probabilities (tiles, classes) of every tile, by the network that didn't see its donor, and each fold's record:
    the epoch whose weights were used, epochs, losses."""

    probabilities: NDArray[np.float64]
    records: list[dict[str, Any]]


def cross_validate(
    data: Labelled,
    folds: list[tuple[Rows, Rows]],
    classes: list[str],
    start: Start,
    config: ClassifierConfig,
    made_from: str,
    kept: Path,
    on_tiles: Callable[[int], object] = lambda count: None,
) -> OutOfFold:
    """Train and test `start` in every fold. `made_from`: digest of the tiles; `kept`: folder of finished folds.

    First weights of the last layer (and of the backbone from scratch), the order of tiles and the tiles to stop on
    follow from the fold, not from the start: every start sees the same.
    """
    found, records = np.empty((len(data.labels), len(classes))), []
    settings = {name: value for name, value in config.to_dict().items() if name != "threads"}
    for number, (train, test) in enumerate(folds):
        asked = sha256_of([made_from, settings, start.digest, number, test.tolist(), rnagan.__version__])
        path = Path(kept) / f"{start.name}_{number}.json"
        told = read_json(path) if path.is_file() else {}
        if told.get("asked") == asked:
            on_tiles(config.epochs * len(train))
        else:
            told = {"asked": asked} | _one_fold(data, train, test, number, classes, start, config, on_tiles)
            write_json(path, told)
        found[test] = told["probabilities"]
        records.append({name: told[name] for name in ("epoch", "epochs", "train_losses", "validation_losses")})
    return OutOfFold(found, records)


def _one_fold(
    data: Labelled,
    train: Rows,
    test: Rows,
    number: int,
    classes: list[str],
    start: Start,
    config: ClassifierConfig,
    on_tiles: Callable[[int], object],
) -> dict[str, Any]:
    learnt, validation = data.part(train), None
    if config.validation_share:
        rows, stop_on = hold_out(learnt.labels, learnt.donors, config.validation_share, classes, config.seed)
        learnt, validation = learnt.part(rows), learnt.part(stop_on)
    network = ResNetClassifier(config, len(classes), first_weights(config.seed, number), start)
    trained = train_classifier(network, learnt, config, f"fold {number}", validation, on_tiles)
    told = probabilities(trained.network, data.tiles[test], config)
    return {"probabilities": told.tolist()} | {k: v for k, v in trained._asdict().items() if k != "network"}


def first_weights(seed: int, fold: int) -> int:
    """The seed of a fold's first weights."""
    return int(rng.generator(seed, "classifier first weights", fold).integers(2**31))
