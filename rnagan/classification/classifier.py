"""A ResNet that classifies tiles: the weights that it starts from, its training and its predictions."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.classification.labelled_tiles import Labelled
from rnagan.cohort.leakage import refuse_seen
from rnagan.config.classifier import ClassifierConfig
from rnagan.data.augment import flip_and_turn
from rnagan.io.files import sha256_of_file
from rnagan.models.resnet import Pretrained, build_backbone, load_imagenet, open_backbone, to_input
from rnagan.runtime import rng
from rnagan.runtime.devices import AUTO, choose_device

SCRATCH, SIMCLR, IMAGENET = "scratch", "SimCLR", "ImageNet"

_PREDICTION_BATCH = 64  # tiles


@dataclasses.dataclass(frozen=True)
class Start:
    """The weights that a backbone starts from. `digest`: of those weights, "" where they are drawn at random."""

    name: str
    digest: str
    load_into: Callable[[nn.Module], None]


class ResNetClassifier(nn.Module):
    """A backbone and one linear layer, (n, 3, H, W) to (n, classes). `seed` draws their first weights."""

    def __init__(self, config: ClassifierConfig, classes: int, seed: int, start: Start) -> None:
        super().__init__()
        self.backbone, width = build_backbone(config.backbone, config.norm, seed)
        start.load_into(self.backbone)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def from_scratch() -> Start:
    """Start from random weights."""
    return Start(SCRATCH, "", lambda backbone: None)


def from_simclr(
    folder: Path, config: ClassifierConfig, shards_digest: str, donors: Iterable[str]
) -> tuple[Start, Pretrained]:
    """Start from a run of `rnagan pretrain-simclr`; `shards_digest`, `donors`: of the tiles that are classified.

    Raises `ValueError` where its network isn't the config's, or was trained on these tiles or donors.
    """
    pretrained = open_backbone(folder)
    for name in ("backbone", "norm"):
        theirs, ours = pretrained.record[name], getattr(config, name)
        if theirs != ours:
            raise ValueError(f"{folder} holds {name} {theirs}, not {ours}; choose --{name} {theirs}.")
    seen = pretrained.record["donors"]
    if seen is None and pretrained.record["made_from"]["shards"] == shards_digest:
        raise ValueError(
            f"{folder} was pretrained on these very tiles, test donors' among them; pretrain on generated tiles, or "
            "with --cohort, and choose other donors here: --where split=test."
        )
    refuse_seen(donors, seen or (), "any fold", str(folder), "--where split=test")
    return Start(SIMCLR, pretrained.digest, pretrained.load_into), pretrained


def from_imagenet(path: Path) -> Start:
    """Start from torchvision's ImageNet weights, a safetensors file; nothing is downloaded."""
    return Start(IMAGENET, sha256_of_file(path), lambda backbone: load_imagenet(path, backbone))


class Trained(NamedTuple):
    """A trained network. Its weights are those of `epoch`: the one of lowest validation loss, or the last of `epochs`.

    The losses are means over an epoch, one value an epoch; without validation tiles there are no validation losses.
    """

    network: nn.Module
    epoch: int
    epochs: int
    train_losses: list[float]
    validation_losses: list[float]

    def record(self) -> dict[str, Any]:
        """All but the network, for JSON."""
        return {name: value for name, value in self._asdict().items() if name != "network"}


def check_batch(tiles: int, config: ClassifierConfig) -> None:
    """Raise `ValueError` where a training set of so many tiles fills no batch."""
    if tiles < config.batch_size:
        raise ValueError(f"{tiles} training tiles fill no batch of {config.batch_size}; lower batch_size.")


def train_classifier(
    network: nn.Module,
    train: Labelled,
    config: ClassifierConfig,
    purpose: str,
    validation: Labelled | None = None,
    on_tiles: Callable[[int], object] = lambda count: None,
    device: str | torch.device = AUTO,
) -> Trained:
    """Train on labelled tiles. Their order depends on `purpose` and the seed alone.

    The last tiles of an epoch are left out where they fill no batch, which BatchNorm needs. With `validation` the
    weights of the lowest loss there are kept, and training stops after `patience_epochs` without a lower one.
    `on_tiles` is called after each batch with its size. `device`: as `choose_device` takes it. Raises `ValueError`
    where there are fewer tiles than a batch, or the loss is no longer finite.
    """
    check_batch(len(train.labels), config)
    network = network.to(choose_device(device)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    best, best_loss, best_epoch = None, math.inf, config.epochs
    train_losses: list[float] = []
    validation_losses: list[float] = []
    for epoch in range(1, config.epochs + 1):
        train_losses.append(_train_epoch(network, optimizer, train, config, purpose, epoch, on_tiles))
        if not math.isfinite(train_losses[-1]):
            raise ValueError(f"The classifier's loss is not finite in epoch {epoch}; lower lr.")
        if validation is None:
            continue
        logits = predict_logits(network, validation.tiles, config)
        validation_losses.append(F.cross_entropy(logits, torch.from_numpy(validation.labels)).item())
        if validation_losses[-1] < best_loss:
            best_loss, best_epoch, best = validation_losses[-1], epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= config.patience_epochs:
            break
    if best is not None:
        network.load_state_dict(best)
    return Trained(network.eval(), best_epoch, len(train_losses), train_losses, validation_losses)


def _train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Labelled,
    config: ClassifierConfig,
    purpose: str,
    epoch: int,
    on_tiles: Callable[[int], object],
) -> float:
    """Train on every whole batch once; returns the mean loss."""
    network.train()
    device = next(network.parameters()).device
    total, batches = torch.zeros((), device=device), 0
    for first, rows in _batches(len(train.labels), config, purpose, epoch):
        x = to_input(train.tiles[rows])
        if config.flips:
            x = flip_and_turn(x, config.seed, first, flips=True, turns=True)
        optimizer.zero_grad()
        with _autocast(device, config):
            logits = network(x.to(device, memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), torch.from_numpy(train.labels[rows]).to(device))
        loss.backward()
        optimizer.step()
        total += loss.detach()
        batches += 1
        on_tiles(len(rows))
    return total.item() / batches


def predict_probabilities(
    network: nn.Module, tiles: NDArray[np.uint8], config: ClassifierConfig
) -> NDArray[np.float64]:
    """Probability of each class, (n, classes), of tiles (n, H, W, 3)."""
    return predict_logits(network, tiles, config).double().softmax(dim=1).numpy()


@torch.no_grad()
def predict_logits(network: nn.Module, tiles: NDArray[np.uint8], config: ClassifierConfig) -> Tensor:
    """Logits of tiles (n, H, W, 3): float32 (n, classes) on the CPU. The network is left in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for first in range(0, len(tiles), _PREDICTION_BATCH):
        x = to_input(tiles[first : first + _PREDICTION_BATCH]).to(device, memory_format=torch.channels_last)
        with _autocast(device, config):
            parts.append(network(x).float().cpu())
    return torch.cat(parts)


def _batches(tiles: int, config: ClassifierConfig, purpose: str, epoch: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The number of its first image, and its rows, of each whole batch of an epoch."""
    order = rng.generator(config.seed, f"classifier order/{purpose}", epoch).permutation(tiles)
    for first in range(0, tiles - config.batch_size + 1, config.batch_size):
        yield (epoch - 1) * tiles + first, order[first : first + config.batch_size]


def _autocast(device: torch.device, config: ClassifierConfig) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
