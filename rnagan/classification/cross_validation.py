"""Folds by donor, and a classifier trained and tested in each of them; finished folds are kept on disk."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from rnagan.classification.classifier import ResNetClassifier, Start, Trained, predict_probabilities, train_classifier
from rnagan.classification.labelled_tiles import Labelled
from rnagan.config.classifier import ClassifierConfig
from rnagan.io import provenance
from rnagan.io.files import write_json
from rnagan.runtime import rng
from rnagan.runtime.devices import AUTO

Rows = NDArray[np.intp]

_FOLD_VERSION = 1  # of what trains and tests a fold; a higher one makes finished folds stale, which cost hours


def make_folds(
    labels: NDArray[np.int64], donors: NDArray[np.str_], count: int, classes: list[str], seed: int
) -> list[tuple[Rows, Rows]]:
    """Training and test rows of each of `count` folds; no donor is in both (scikit-learn's StratifiedGroupKFold).

    `labels`, `donors` (tiles,). Raises `ValueError` where a class has fewer donors than there are folds, or a part of a
    fold lacks a class.
    """
    for number, name in enumerate(classes):
        donors_of_class = len(set(donors[labels == number]))
        if donors_of_class < count:
            raise ValueError(
                f"Class {name} has {donors_of_class} donors, too few for {count} parts; ask for fewer folds."
            )
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "fewer tiles than folds": checked above, by donor
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
    """Rows to train on, and rows of about `share` of the donors for early stopping: the first of 1/share folds."""
    return make_folds(labels, donors, max(2, round(1 / share)), classes, seed)[0]


def result_settings(config: ClassifierConfig) -> dict[str, Any]:
    """The settings that decide a result: all but the number of threads."""
    return {name: value for name, value in config.to_dict().items() if name != "threads"}


def fit(
    data: Labelled,
    classes: list[str],
    config: ClassifierConfig,
    fold: int,
    purpose: str,
    start: Start,
    on_tiles: Callable[[int], object] = lambda count: None,
    device: str | torch.device = AUTO,
) -> Trained:
    """Train a new classifier; `validation_share` of its donors are held out to stop early.

    `fold` draws the first weights, `purpose` the order of tiles: both are the same for every start.
    """
    train, validation = data, None
    if config.validation_share:
        rows, held_out = hold_out(data.labels, data.donors, config.validation_share, classes, config.seed)
        train, validation = data.part(rows), data.part(held_out)
    first_weights = int(rng.generator(config.seed, "classifier first weights", fold).integers(2**31))
    network = ResNetClassifier(config, len(classes), first_weights, start)
    return train_classifier(network, train, config, purpose, validation, on_tiles, device)


class OutOfFold(NamedTuple):
    """`probabilities` (tiles, classes): of each tile by the network that was not trained on its donor.

    `records`, one a fold: the epoch whose weights were used, the number of epochs, and the losses.
    """

    probabilities: NDArray[np.float64]
    records: list[dict[str, Any]]


class TrainingSets(NamedTuple):
    """Other training sets than a fold's own rows: their name and digest, and that of each fold by its number."""

    name: str
    digest: str
    of_fold: Callable[[int], Labelled]


def cross_validate(
    data: Labelled,
    folds: list[tuple[Rows, Rows]],
    classes: list[str],
    start: Start,
    config: ClassifierConfig,
    data_digest: str,
    folder: Path,
    on_tiles: Callable[[int], object] = lambda count: None,
    device: str | torch.device = AUTO,
    training: TrainingSets | None = None,
) -> OutOfFold:
    """Train and test from `start` in every fold. `folder` keeps finished folds; those of the same request are read.
    `training`: what is trained on, where that isn't the real tiles of a fold's training rows.

    Folds draw the same random numbers for every start: first weights of the linear layer (and of a backbone from
    scratch), the order of tiles, and the donors held out to stop early.
    """
    probabilities, records = np.empty((len(data.labels), len(classes))), []
    for number, (train, test) in enumerate(folds):
        request = provenance.asked(
            code=False,
            version=_FOLD_VERSION,
            data=data_digest,
            settings=result_settings(config),
            start=start.digest,
            fold=number,
            test=test,
            **({} if training is None else {"training": training.digest}),
        )
        path = folder / f"{start.name if training is None else training.name}_{number}.json"
        record = provenance.read_current(path, request)
        if record is not None:
            on_tiles(config.epochs * len(train))
        else:
            shown = data.part(train) if training is None else training.of_fold(number)
            trained = fit(shown, classes, config, number, f"fold {number}", start, on_tiles, device)
            predicted = predict_probabilities(trained.network, data.tiles[test], config)
            record = {provenance.KEY: request, "probabilities": predicted.tolist()} | trained.record()
            write_json(path, record)
        probabilities[test] = record["probabilities"]
        records.append({name: record[name] for name in ("epoch", "epochs", "train_losses", "validation_losses")})
    return OutOfFold(probabilities, records)
