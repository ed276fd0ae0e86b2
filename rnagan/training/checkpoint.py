"""Checkpoints: folders that appear by rename, tensors as safetensors, everything else as JSON.

Nothing that is read here can run code (DESIGN.md, "Checkpoints").
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rnagan.files import atomic_path, read_json
from rnagan.weights import load_weights, read_tensors, save_weights, write_tensors


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds: the path, and `state` (counters, run id, config) as plain JSON values."""

    path: Path
    state: dict[str, Any]

    def load_module(self, name: str, module: nn.Module) -> None:
        """Copy the stored weights of `name` into a module; another architecture is refused by name."""
        load_weights(self.path / f"{name}.safetensors", module)

    def load_optimizer(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """Restore an optimiser's moments and groups, in the memory format of its parameters."""
        tensors = read_tensors(self.path / f"{name}.safetensors")
        groups = self.state["optimizers"][name]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            index, field = key.split(".", 1)
            parameter = parameters[int(index)]
            # Fused optimisers walk raw memory: a moment must be laid out as its parameter is.
            same_layout = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor) if tensor.dim() else tensor
            moments.setdefault(int(index), {})[field] = same_layout
        optimizer.load_state_dict({"state": moments, "param_groups": groups})


def save_checkpoint(
    folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer], state: dict[str, Any]
) -> None:
    """Write modules, optimisers and `state` (JSON-able) as one folder that appears by rename."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, module in modules.items():
            save_weights(temporary / f"{name}.safetensors", module)
        groups = {}
        for name, optimizer in optimizers.items():
            stored = optimizer.state_dict()
            flat = {f"{i}.{field}": tensor for i, own in stored["state"].items() for field, tensor in own.items()}
            write_tensors(temporary / f"{name}.safetensors", flat)
            groups[name] = stored["param_groups"]
        (temporary / "state.json").write_text(json.dumps(state | {"optimizers": groups}, indent=1))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder; tensors are read when asked for."""
    return Checkpoint(Path(folder), read_json(Path(folder) / "state.json"))


def checkpoint_path(run: Path, count: int) -> Path:
    """Folder of the checkpoint after `count` images (or steps) of a run."""
    return Path(run) / "checkpoints" / f"{count:012d}"


def latest_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    return max((Path(run) / "checkpoints").glob("[0-9]*"), default=None)


def keep_newest(run: Path, count: int) -> None:
    """Delete all but the newest `count` checkpoints of a run."""
    for old in sorted((Path(run) / "checkpoints").glob("[0-9]*"))[:-count]:
        shutil.rmtree(old)
