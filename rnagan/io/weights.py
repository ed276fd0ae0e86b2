"""Weights as safetensors: written whole, read without running code, refused when they belong to something else."""

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def save_weights(path: Path, module: nn.Module) -> None:
    write_tensors(path, module.state_dict())


def load_weights(path: Path, module: nn.Module) -> None:
    """Copy stored weights into `module`; raises `ValueError` when names or shapes differ.

    A module whose weights had other names in earlier versions has a method `earlier_names`, which gives them today's.
    """
    check_weights(path, module)
    module.load_state_dict(_todays_names(read_tensors(path), module))


def build_with_weights(path: Path, make: Callable[[], M]) -> M:
    """The module that `make` makes, with stored weights. Memory is taken only where names and shapes are those of the
    file: what a config asks for is compared with it first. Raises as `load_weights`."""
    try:
        with torch.device("meta"):
            planned = make()
    except (RuntimeError, OverflowError, TypeError) as error:  # beyond what a tensor can count
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} can't belong to its config, which asks for the impossible ({reason}).") from None
    check_weights(path, planned)
    module = make()
    load_weights(path, module)
    return module


def check_weights(path: Path, module: nn.Module) -> None:
    """Refuse stored weights whose names or shapes aren't those of `module`; only their header is read."""
    stored = {name: torch.empty(shape, device="meta") for name, shape in shapes_of(path).items()}
    tensors, own = _todays_names(stored, module), module.state_dict()
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


def _todays_names(tensors: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    return module.earlier_names(tensors) if hasattr(module, "earlier_names") else tensors  # type: ignore[operator]


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as one safetensors file, in a thread without holding the others up. Raises `OSError`."""
    path = Path(path)
    path.touch()
    mode = path.stat().st_mode  # safetensors puts a file in its place that only its owner may read
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise _of_the_system(error, path) from None
    path.chmod(mode)


def _of_the_system(error: SafetensorError, path: Path) -> Exception:
    """The error of the system that safetensors names by its number in an error of its own, as on a full disk."""
    number = re.search(r"(?:os error|code:) (\d+)", str(error))
    return error if number is None else OSError(int(number[1]), os.strerror(int(number[1])), str(path))


def read_tensors(path: Path, names: Collection[str] = ()) -> dict[str, Tensor]:
    """Read a safetensors file; a missing or broken one, or one without these names, raises with its name."""
    with _readable(path):
        tensors = load_file(path)
    _need(path, tensors, names)
    return tensors


def shapes_of(path: Path) -> dict[str, list[int]]:
    """Names and shapes of the tensors of a safetensors file, from its header alone; raises as `read_tensors`."""
    with _readable(path), safe_open(path, framework="pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; the folder is no complete checkpoint.")
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error}).") from None


def _need(path: Path, tensors: Collection[str], names: Collection[str]) -> None:
    missing = sorted(set(names) - set(tensors))
    if missing:
        raise ValueError(f"{path} has no tensor {', '.join(missing)}; copy the whole folder again.")


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write named arrays as `write_tensors` does."""
    write_tensors(path, {name: torch.from_numpy(array) for name, array in arrays.items()})


def read_arrays(path: Path, names: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote, with the errors of `read_tensors`; only `names`, where they are given."""
    tensors = read_tensors(path, names)
    return {name: tensor.numpy() for name, tensor in tensors.items() if not names or name in names}
