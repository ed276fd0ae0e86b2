"""ResNets of torchvision as backbones: built, and kept as a folder with `backbone.safetensors` and `backbone.json`."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.io.files import atomic_path, read_json, sha256_of_file, write_json
from rnagan.io.json_values import check_json
from rnagan.io.weights import load_weights, read_tensors, save_weights

# Of ImageNet's photographs: what torchvision's weights expect, and what Lightly's transform makes.
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_GROUPS = 32  # Wu & He 2018
_WEIGHTS, _RECORD = "backbone.safetensors", "backbone.json"


class BackboneRecord(TypedDict):
    """A backbone.json. `donors`: digests of those whose tiles were learnt from, None where they aren't known."""

    format: str
    digest: str
    backbone: str
    norm: str
    donors: NotRequired[list[str] | None]
    made_from: NotRequired[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A backbone on disk. `record`: its name, norm, resolution, normalisation, and what it was made from and how."""

    folder: Path
    record: dict[str, Any]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the weights."""
        return self.record["digest"]

    def load_into(self, backbone: nn.Module) -> None:
        """Copy the weights into a backbone; another architecture is refused by name."""
        load_weights(self.folder / _WEIGHTS, backbone)


def build_backbone(name: str, norm: str, seed: int) -> tuple[nn.Module, int]:
    """A ResNet without its last layer, (n, 3, H, W) to (n, width), and that width. Its first weights are drawn from
    `seed`; torch's own randomness is left alone. `norm`: batch, or group (32 groups)."""
    import torchvision  # most of a second, and its constants alone are wanted by those who evaluate

    norm_layer = functools.partial(nn.GroupNorm, _GROUPS) if norm == "group" else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision.models.get_model(name, weights=None, norm_layer=norm_layer)
    width = network.fc.in_features
    network.fc = nn.Identity()
    return network, width


def to_input(tiles: NDArray[np.uint8]) -> Tensor:
    """Tiles (n, H, W, 3) uint8 to what a backbone takes: (n, 3, H, W) float32, normalised by MEAN and SD."""
    x = torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float().div_(255)
    mean, sd = (torch.tensor(values)[:, None, None] for values in (MEAN, SD))
    return (x - mean) / sd


def save_backbone(folder: Path, backbone: nn.Module, record: dict[str, Any]) -> None:
    """Write both files by rename, the record last; `record` gets the weights' digest and the normalisation."""
    with atomic_path(folder / _WEIGHTS) as temporary:
        save_weights(temporary, backbone)
    made = {"format": "rnagan-backbone", "version": 1, "digest": sha256_of_file(folder / _WEIGHTS)}
    write_json(folder / _RECORD, made | {"mean": MEAN, "sd": SD} | record)


def open_backbone(folder: Path) -> Pretrained:
    """A folder that `save_backbone` wrote; changed or missing files are refused by name."""
    if not (folder / _RECORD).is_file():
        raise FileNotFoundError(f"{folder} holds no pretrained backbone; give a run of rnagan pretrain-simclr.")
    record = read_json(folder / _RECORD, dict[str, Any])
    if record.get("format") != "rnagan-backbone":
        raise ValueError(f"{folder / _RECORD} is of another kind; give a run of rnagan pretrain-simclr.")
    check_json(record, BackboneRecord, folder / _RECORD)
    if not (folder / _WEIGHTS).is_file() or sha256_of_file(folder / _WEIGHTS) != record["digest"]:
        raise ValueError(f"{folder / _WEIGHTS} is missing or was changed after training; copy the run again.")
    return Pretrained(folder, record)


def load_imagenet(path: Path, backbone: nn.Module) -> None:
    """Copy torchvision's weights, as a safetensors file with or without its last layer, into a backbone."""
    own = backbone.state_dict()
    tensors = {name: tensor for name, tensor in read_tensors(path).items() if not name.startswith("fc.")}
    # Files of other libraries leave the counters out, which have no part in what a network computes.
    tensors = {name: own[name] for name in own if name.endswith("num_batches_tracked")} | tensors
    differs = sorted(n for n in tensors.keys() | own.keys() if n not in tensors or n not in own)
    differs = differs or sorted(n for n in own if tensors[n].shape != own[n].shape)
    if differs:
        raise ValueError(
            f"{path} holds weights of another network ({len(differs)} tensors differ, first {differs[0]!r}); choose "
            "its --backbone, and --norm batch."
        )
    backbone.load_state_dict(tensors)
