"""Weights as safetensors: written whole, read without running code, refused when they belong to something else."""

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn


def save_weights(path: Path, module: nn.Module) -> None:
    write_tensors(path, module.state_dict())


def load_weights(path: Path, module: nn.Module) -> None:
    """Copy stored weights into `module`; raises `ValueError` when names or shapes differ.

    A module whose weights had other names in earlier versions has a method `earlier_names`, which gives them today's.
    """
    tensors, own = read_tensors(path), module.state_dict()
    if hasattr(module, "earlier_names"):
        tensors = module.earlier_names(tensors)  # type: ignore[operator]
    differs = sorted(
        name
        for name in tensors.keys() | own.keys()
        if name not in tensors or name not in own or tensors[name].shape != own[name].shape
    )
    if differs:
        raise ValueError(
            f"{path} belongs to another architecture ({len(differs)} tensors differ, first {differs[0]!r}); "
            "use the config that it was trained with."
        )
    module.load_state_dict(tensors)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as one safetensors file."""
    # Not save_file: on a full disk it raises an error of its own instead of OSError.
    Path(path).write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a missing or broken one raises with its name."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; the folder is no complete checkpoint.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error}).") from None


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write named arrays as `write_tensors` does."""
    write_tensors(path, {name: torch.from_numpy(array) for name, array in arrays.items()})


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote, with the errors of `read_tensors`."""
    return {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
