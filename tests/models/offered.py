"""A package that offers a backbone, as pip would have installed it."""

import sys
from pathlib import Path

import pytest

SOURCE = """
import torch
from torch import nn
from rnagan.models.backbones import Backbone

class Maps(Backbone):
    '''Maps at strides 4 and 8, of fixed weights.'''
    channels = [5, 7]
    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(SEED)
        self.first, self.second = nn.Conv2d(3, 5, 4, stride=4), nn.Conv2d(5, 7, 2, stride=2)
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=draw) / weight[0].numel() ** 0.5
    def forward(self, x):
        fine = torch.tanh(self.first(x))
        return [fine, torch.tanh(self.second(fine))]
"""


def install(
    folder: Path, patch: pytest.MonkeyPatch, entries: dict[str, str], source: str = SOURCE, seed: int = 0
) -> None:
    """Put a package `toy_maps` into `folder` and `folder` on Python's path.

    `entries`: by the names of its backbones, what they are in `toy_maps`.
    """
    about = folder / "toy_maps-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (folder / "toy_maps.py").write_text(source.replace("SEED", str(seed)))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-maps\nVersion: 1.0\n")
    lines = [f"{name} = toy_maps:{what}" for name, what in entries.items()]
    (about / "entry_points.txt").write_text("\n".join(["[rnagan.backbones]", *lines, ""]))
    patch.delitem(sys.modules, "toy_maps", raising=False)
    patch.syspath_prepend(folder)
