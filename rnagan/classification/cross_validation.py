"""One start through all folds; a finished fold is kept, and used again where it was made of the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import rnagan
from rnagan import rng
from rnagan.classification.config import ClassifierConfig
from rnagan.classification.folds import Rows, hold_out
from rnagan.classification.network import ResNetClassifier, Start
from rnagan.classification.tiles import Labelled
from rnagan.classification.trainer import probabilities, train_classifier
from rnagan.files import read_json, sha256_of, write_json


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
