"""Checkpoints: folders that appear by rename, tensors as safetensors, everything else as JSON.

Nothing that is read here can run code (DESIGN.md, "Checkpoints").
"""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from rnagan.io.files import atomic_path, read_json, write_json
from rnagan.io.json_values import check_json
from rnagan.io.weights import load_weights, read_tensors, shapes_of, write_tensors


class Moments(NamedTuple):
    """An optimiser's state: tensors by `PARAMETER.FIELD`, parameters by number, and its groups."""

    tensors: dict[str, Tensor]
    groups: list[dict[str, Any]]


S = TypeVar("S")


class State(TypedDict):
    """The state.json of a checkpoint: groups of each optimiser, and what the run and its trainer add."""

    optimizers: dict[str, list[dict[str, Any]]]


class RunState(State):
    """What every run adds. `made_from`: digests of its inputs; `kind` and `config` not in a GAN's."""

    made_from: dict[str, str]
    mlflow_run: str | None
    kind: NotRequired[str]
    config: NotRequired[dict[str, Any]]


class GANState(RunState):
    """`images` shown and critic `steps` made."""

    images: int
    steps: int
    loss_scale: NotRequired[dict[str, Any]]


class VAEState(RunState):
    """`sums` of the epoch's means so far; `best_loss` None before the first validation."""

    step: int
    best_step: int
    best_loss: float | None
    sums: list[float]


class SimCLRState(RunState):
    """Steps made."""

    step: int


class Best(TypedDict):
    """A run's best.json: the name of its best checkpoint, and the value of the metric by which it is."""

    checkpoint: str
    metric: str
    value: float


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds: the path, and `state` (counters, run id, config) as plain JSON values."""

    path: Path
    state: dict[str, Any]

    def state_of(self, format_: type[S]) -> S:
        """The state as that of a run, or of one kind; `ValueError` with the file's name where it isn't."""
        return check_json(self.state, format_, self.path / "state.json")

    def load_module(self, name: str, module: nn.Module) -> None:
        """Copy the stored weights of `name` into a module; another architecture is refused by name."""
        load_weights(self.path / f"{name}.safetensors", module)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The stored tensors of a module or an optimiser."""
        return read_tensors(self.path / f"{name}.safetensors")

    def load_optimizer(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """Restore an optimiser's moments and groups, in the memory format of its parameters."""
        tensors = self.tensors(name)
        groups = self.state["optimizers"].get(name)
        if groups is None:
            raise ValueError(f"{self.path / 'state.json'} says nothing of {name}; delete this checkpoint.")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            index, _, field = key.partition(".")
            if not index.isdecimal() or int(index) >= len(parameters):
                raise ValueError(f"{self.path / name}.safetensors is of another optimiser; delete this checkpoint.")
            parameter = parameters[int(index)]
            # Fused optimisers walk raw memory: a moment must be laid out as its parameter is.
            same_layout = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor) if tensor.dim() else tensor
            moments.setdefault(int(index), {})[field] = same_layout
        optimizer.load_state_dict({"state": moments, "param_groups": groups})


def moments_of(optimizer: torch.optim.Optimizer) -> Moments:
    """The state of an optimiser, its tensors not copied."""
    stored = optimizer.state_dict()
    flat = {f"{k}.{field}": tensor for k, own in stored["state"].items() for field, tensor in own.items()}
    return Moments(flat, stored["param_groups"])


def host_copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the host's memory, in plain rows, which later steps don't change; the steps so far are waited for."""
    copies = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda).copy_(
            tensor.detach(), non_blocking=True
        )
        for name, tensor in tensors.items()
    }
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()
    return copies


def save_checkpoint(
    folder: Path, modules: dict[str, dict[str, Tensor]], optimizers: dict[str, Moments], state: dict[str, Any]
) -> None:
    """Write weights by module, moments by optimiser and `state` (JSON-able) as one folder that appears by rename."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, tensors in (modules | {name: moments.tensors for name, moments in optimizers.items()}).items():
            write_tensors(temporary / f"{name}.safetensors", tensors)
        groups = {name: moments.groups for name, moments in optimizers.items()}
        (temporary / "state.json").write_text(json.dumps(state | {"optimizers": groups}, indent=1))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder; tensors are read when asked for."""
    state = read_json(Path(folder) / "state.json", State, nan=True)
    return Checkpoint(Path(folder), dict(state))


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder: a file of it is missing, cut or unreadable; None where it is whole.

    Files are missed that its `state` or another checkpoint of its run names. Weights aren't read, only their headers.
    """
    folder = Path(folder)
    try:
        optimizers = load_checkpoint(folder).state["optimizers"]
    except (OSError, ValueError):
        return "state.json is missing or no JSON"
    named = {f"{name}.safetensors" for name in optimizers}
    named |= {path.name for path in folder.parent.glob("[0-9]*/*.safetensors")}
    for name in sorted(named):
        try:
            shapes_of(folder / name)
        except (OSError, ValueError):
            return f"{name} is missing or cut"
    return None


def check_seen(folder: Path) -> None:
    """Refuse a checkpoint that the main process found whole and this one doesn't see so."""
    if (why := damage(folder)) is not None:
        raise FileNotFoundError(
            f"{folder} is whole for process 0 and not here ({why}); put the run on a disk that all processes see."
        )


def newest_whole(run: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint of a run without damage, None where there is none; and those after it, with their damage.

    Raises `ValueError` where there are checkpoints and all are damaged.
    """
    damaged: dict[Path, str] = {}
    checkpoints = sorted((Path(run) / "checkpoints").glob("[0-9]*"), reverse=True)
    for folder in checkpoints:
        why = damage(folder)
        if why is None:
            return folder, damaged
        damaged[folder] = why
    if damaged:
        first, why = next(iter(damaged.items()))
        raise ValueError(
            f"No checkpoint of {run} is whole (in {first.name} {why}); delete {first.parent} to begin anew, or choose "
            "another --out."
        )
    return None, {}


def set_aside_damaged(run: Path) -> Path | None:
    """The newest whole checkpoint of a run (`newest_whole`), after damaged ones that came after it were renamed to
    `damaged-NAME` beside it, with a warning: they would stand in the way of new ones."""
    found, damaged = newest_whole(run)
    for folder, why in damaged.items():
        aside = folder.with_name(f"damaged-{folder.name}")
        if aside.exists():
            shutil.rmtree(aside)
        folder.rename(aside)
        warnings.warn(
            f"The checkpoint {folder} is damaged ({why}): it is now called {aside.name}, and the run goes on from "
            f"{found}.",
            stacklevel=2,
        )
    return found


def keep(run: Path, newest: int, best: Path | None = None) -> None:
    """Delete all checkpoints of a run but the `newest` ones and `best`."""
    for old in sorted((Path(run) / "checkpoints").glob("[0-9]*"))[:-newest]:
        if best is None or old.name != Path(best).name:
            shutil.rmtree(old)


def mark_best(run: Path, checkpoint: Path, metric: str, value: float) -> None:
    """Note in `best.json` that a checkpoint of this run has the lowest `value` of a metric so far, if it has.

    A value of another metric than the one noted, or of a checkpoint that is no more, is no rival.
    """
    noted = _noted_best(run)
    if noted and best_checkpoint(run) and noted["metric"] == metric and noted["value"] <= value:
        return
    write_json(Path(run) / "best.json", {"checkpoint": Path(checkpoint).name, "metric": metric, "value": float(value)})


def best_checkpoint(run: Path) -> Path | None:
    """The checkpoint that `mark_best` noted, or None."""
    noted = _noted_best(run)
    path = Path(run) / "checkpoints" / noted["checkpoint"] if noted else None
    return path if path is not None and path.is_dir() else None


def _noted_best(run: Path) -> Best | None:
    path = Path(run) / "best.json"
    return read_json(path, Best) if path.is_file() else None
