"""Training of a classifier: it learns, is repeatable, and stops early."""

import numpy as np
import pytest
import torch
from torch import nn

from rnagan.classification.classifier import ResNetClassifier, from_scratch, predict_probabilities, train_classifier
from rnagan.classification.labelled_tiles import Labelled
from rnagan.config.classifier import ClassifierConfig

CONFIG = ClassifierConfig(backbone="resnet18", epochs=3, lr=1e-3)


def coloured(count: int, seed: int) -> Labelled:
    """Tiles of two colours with noise."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    tiles = draw.normal(120, 30, (count, 32, 32, 3)) + labels[:, None, None, None] * [60, 0, 0]
    return Labelled(tiles.clip(0, 255).astype(np.uint8), labels, np.array([f"D{k}" for k in range(count)]))


def small(seed: int = 0) -> nn.Module:
    """A network in the ResNet's place where what is tested is the training."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, 2))


def test_it_learns() -> None:
    train, test = coloured(40, 0), coloured(20, 1)
    config = CONFIG.replace(epochs=20, lr=1e-2)
    predicted = predict_probabilities(train_classifier(small(), train, config, "a").network, test.tiles, config)
    assert (predicted.argmax(axis=1) == test.labels).mean() >= 0.9
    assert predicted.sum(axis=1) == pytest.approx(np.ones(20))


def test_a_resnet_repeats_itself_bit_by_bit() -> None:
    config, train = CONFIG.replace(epochs=1), coloured(8, 0)
    found = [
        predict_probabilities(
            train_classifier(ResNetClassifier(config, 2, 4, from_scratch()), train, config, "a").network,
            train.tiles,
            config,
        )
        for _ in range(2)
    ]
    assert (found[0] == found[1]).all()


def test_the_order_of_tiles_follows_purpose_and_seed() -> None:
    def weights(**changes: object) -> torch.Tensor:
        purpose = str(changes.pop("purpose", "a"))
        trained = train_classifier(small(), coloured(10, 0), CONFIG.replace(**changes), purpose)
        return trained.network[0].weight

    assert torch.equal(weights(), weights())
    for changes in ({"purpose": "b"}, {"seed": 1}, {"flips": True}):
        assert not torch.equal(weights(), weights(**changes))


def test_the_rest_of_an_epoch_that_fills_no_batch_is_left_out() -> None:
    seen: list[int] = []
    train_classifier(small(), coloured(9, 0), CONFIG, "a", on_tiles=seen.append)
    assert seen == [4, 4] * 3  # BatchNorm couldn't take one tile alone
    with pytest.raises(ValueError, match="3 training tiles fill no batch of 4"):
        train_classifier(small(), coloured(3, 0), CONFIG, "a")


def test_it_stops_early_and_keeps_the_best_weights() -> None:
    train, other = coloured(16, 0), coloured(16, 1)
    wrong = other._replace(labels=1 - other.labels)  # what is learnt makes this one worse
    config = CONFIG.replace(epochs=30, patience_epochs=2, lr=1e-2)
    trained = train_classifier(small(), train, config, "a", wrong)
    losses = trained.validation_losses
    assert trained.epochs == len(losses) == trained.epoch + 2 < 30
    assert losses[trained.epoch - 1] == min(losses)
    predicted = torch.from_numpy(predict_probabilities(trained.network, wrong.tiles, config))
    kept = nn.functional.nll_loss(predicted.log(), torch.from_numpy(wrong.labels)).item()
    assert kept == pytest.approx(min(losses), rel=1e-5) and kept < losses[-1]
    whole = train_classifier(small(), train, config.replace(epochs=4), "a")
    assert (whole.epoch, whole.epochs, whole.validation_losses) == (4, 4, [])


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    with pytest.raises(ValueError, match="loss is not finite in epoch 1; lower lr"):
        train_classifier(small(), coloured(8, 0), CONFIG.replace(lr=1e30), "a")
