"""A ResNet that says what class a tile is of: weights to start from, training, answers."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.classification.labelled_tiles import Labelled
from rnagan.config.classifier import ClassifierConfig
from rnagan.data.augment import flip_and_turn
from rnagan.io.files import sha256_of_file
from rnagan.models.resnet import Pretrained, build_backbone, load_imagenet, open_backbone, to_input
from rnagan.runtime import rng

SCRATCH, SIMCLR, IMAGENET = "scratch", "SimCLR", "ImageNet"


@dataclasses.dataclass(frozen=True)
class Start:
    """What the backbone's weights start from. `digest` of those weights; "" where they are drawn."""

    name: str
    digest: str
    load_into: Callable[[nn.Module], None]


class ResNetClassifier(nn.Module):
    """A backbone and one linear layer, (n, 3, H, W) to (n, classes). `seed`: of first weights."""

    def __init__(self, config: ClassifierConfig, classes: int, seed: int, start: Start | None = None) -> None:
        super().__init__()
        self.backbone, width = build_backbone(config.backbone, config.norm, seed)
        if start is not None:
            start.load_into(self.backbone)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.backbone(x))


def from_scratch() -> Start:
    return Start(SCRATCH, "", lambda backbone: None)


def from_simclr(folder: Path, config: ClassifierConfig) -> tuple[Start, Pretrained]:
    """From a run of rnagan pretrain-simclr; one of another network is refused."""
    pretrained = open_backbone(folder)
    for name in ("backbone", "norm"):
        theirs, ours = pretrained.record[name], getattr(config, name)
        if theirs != ours:
            raise ValueError(f"{folder} holds {name} {theirs}, not {ours}; choose --{name} {theirs}.")
    return Start(SIMCLR, pretrained.digest, pretrained.load_into), pretrained


def from_imagenet(path: Path) -> Start:
    """From torchvision's weights as a safetensors file; nothing is downloaded."""
    return Start(IMAGENET, sha256_of_file(path), lambda backbone: load_imagenet(path, backbone))


_AT_A_TIME = 64  # tiles, where nothing is learned


class Trained(NamedTuple):
    """The network, with the weights of `epoch` (of the lowest validation loss, or the last), of `epochs` trained."""

    network: nn.Module
    epoch: int
    epochs: int
    train_losses: list[float]
    validation_losses: list[float]


def train_classifier(
    network: nn.Module,
    train: Labelled,
    config: ClassifierConfig,
    purpose: str,
    validation: Labelled | None = None,
    on_tiles: Callable[[int], object] = lambda count: None,
) -> Trained:
    """Train on labelled tiles. `purpose` names the order of tiles, which follows from it and the seed alone.

    A rest of an epoch that fills no batch is left out, as BatchNorm wants. With `validation` the weights of the lowest
    loss there are kept, and training stops `patience_epochs` later. `on_tiles` is told of every batch's size. Raises
    `ValueError` where there are fewer tiles than a batch, or the loss is no longer finite.
    """
    if len(train.labels) < config.batch_size:
        raise ValueError(f"{len(train.labels)} training tiles fill no batch of {config.batch_size}; lower batch_size.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    best, best_loss, best_epoch = None, math.inf, config.epochs
    train_losses: list[float] = []
    validation_losses: list[float] = []
    for epoch in range(1, config.epochs + 1):
        network.train()
        total, batches = torch.zeros((), device=device), 0
        for start, rows in _batches(len(train.labels), config, purpose, epoch):
            x = to_input(train.tiles[rows])
            if config.flips:
                x = flip_and_turn(x, config.seed, start, flips=True, turns=True)
            optimizer.zero_grad()
            with _autocast(device, config):
                logits = network(x.to(device, memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), torch.from_numpy(train.labels[rows]).to(device))
            loss.backward()
            optimizer.step()
            total += loss.detach()
            batches += 1
            on_tiles(len(rows))
        train_losses.append(total.item() / batches)
        if not math.isfinite(train_losses[-1]):
            raise ValueError(f"The classifier's loss is not finite in epoch {epoch}; lower lr.")
        if validation is None:
            continue
        found = outputs_of(network, validation.tiles, config)
        validation_losses.append(F.cross_entropy(found, torch.from_numpy(validation.labels)).item())
        if validation_losses[-1] < best_loss:
            best_loss, best_epoch, best = validation_losses[-1], epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= config.patience_epochs:
            break
    if best is not None:
        network.load_state_dict(best)
    return Trained(network.eval(), best_epoch, len(train_losses), train_losses, validation_losses)


def probabilities(network: nn.Module, tiles: NDArray[np.uint8], config: ClassifierConfig) -> NDArray[np.float64]:
    """Probability of each class, (n, classes), of tiles (n, H, W, 3)."""
    return outputs_of(network, tiles, config).double().softmax(dim=1).numpy()


@torch.no_grad()
def outputs_of(network: nn.Module, tiles: NDArray[np.uint8], config: ClassifierConfig) -> Tensor:
    """What the network says of tiles, float32 (n, classes), on the CPU; it is left in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for first in range(0, len(tiles), _AT_A_TIME):
        x = to_input(tiles[first : first + _AT_A_TIME]).to(device, memory_format=torch.channels_last)
        with _autocast(device, config):
            parts.append(network(x).float().cpu())
    return torch.cat(parts)


def _batches(tiles: int, config: ClassifierConfig, purpose: str, epoch: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Number of the first image, and the rows, of each whole batch of an epoch."""
    order = rng.generator(config.seed, f"classifier order/{purpose}", epoch).permutation(tiles)
    for first in range(0, tiles - config.batch_size + 1, config.batch_size):
        yield (epoch - 1) * tiles + first, order[first : first + config.batch_size]


def _autocast(device: torch.device, config: ClassifierConfig) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
