"""The network that is trained, and what its weights may start from."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from rnagan.classification.config import ClassifierConfig
from rnagan.files import sha256_of_file
from rnagan.models.backbone import Pretrained, build_backbone, load_imagenet, open_backbone

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
    """From a run of tools/pretrain_simclr.py; one of another network is refused."""
    pretrained = open_backbone(folder)
    for name in ("backbone", "norm"):
        theirs, ours = pretrained.record[name], getattr(config, name)
        if theirs != ours:
            raise ValueError(f"{folder} holds {name} {theirs}, not {ours}; choose --{name} {theirs}.")
    return Start(SIMCLR, pretrained.digest, pretrained.load_into), pretrained


def from_imagenet(path: Path) -> Start:
    """From torchvision's weights as a safetensors file; nothing is downloaded."""
    return Start(IMAGENET, sha256_of_file(path), lambda backbone: load_imagenet(path, backbone))
